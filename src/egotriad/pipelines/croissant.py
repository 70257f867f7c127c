"""`croissant.json`: the dataset in MLCommons' Croissant 1.1 (JSON-LD), for catalogues and loaders.

Fields are described as the Hub describes Parquet (huggingface/dataset-viewer
libs/libcommon/src/libcommon/croissant_utils.py). Files are named by patterns: their hashes are in
`manifest.jsonl`. No date is in it, so that the same shards give the same bytes.
"""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from egotriad.manifests.licences import licences_of
from egotriad.manifests.schema import FOLDERS, TABLES
from egotriad.pipelines.card_front import front_matter
from egotriad.pipelines.facts import BuildFacts
from egotriad.pipelines.stats import value_counts

__all__ = ["contents_of", "croissant"]

TERMS = (
    *("arrayShape", "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
    *("replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in TERMS},
}
"""The standard's own context: other keys or fewer would make readers warn."""

TYPES = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "float": "cr:Float32",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "uint16": "cr:UInt16",
}


def croissant(
    title: str, lines: Sequence[dict[str, Any]], stats: dict[str, Any], facts: BuildFacts
) -> str:
    """The text of `croissant.json`.

    Args:
        title: name for people.
        lines: of the manifest.
        stats: of `stats.shard_stats`.
        facts: of the build's configuration.
    """
    front = front_matter(title, lines, stats)
    tables = [entry["config_name"] for entry in front["configs"]]
    licences = licences_of(value_counts(stats, "license_id"))
    contents = "narrations" + (", IMU" if facts.imu else "")
    if facts.events:
        contents += f", {'synthetic ' if facts.events_computed else ''}event-camera data"
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": title,
        "description": f"Windows of egocentric recordings ({facts.rules}) with {contents}.",
        "citeAs": f"{', '.join(value_counts(stats, 'source'))}; "
        f"egotriad, configuration {facts.hash}",
        "license": [item.url or item.id for item in licences],
        "keywords": front["tags"],
        "inLanguage": front["language"],
        "isLiveDataset": False,
        **_responsibility(stats, facts),
        **contents_of(tables),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def contents_of(tables: Sequence[str]) -> dict[str, Any]:
    """The document's properties that follow from the schema alone."""
    return {
        "distribution": [_files(table) for table in tables],
        "recordSet": [_records(table) for table in tables],
    }


def _files(table: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{table}-files",
        "name": f"{table}-files",
        "description": f"Parquet files of the table {table}; hashes are in manifest.jsonl.",
        "encodingFormat": "application/x-parquet",
        "includes": f"{FOLDERS[table]}/*.parquet",
    }


def _records(table: str) -> dict[str, Any]:
    split = {
        "@type": "cr:Field",
        "@id": f"{table}/split",
        "name": "split",
        "description": "train, validation or test, from the file's name",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": f"{table}-files"},
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": r"^(\w+)-\d+-of-\d+\.parquet$"},
        },
    }
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": f"one row per {'question' if table == 'qa' else 'window'}",
        "key": {"@id": f"{table}/{TABLES[table].names[0]}"},
        "field": [split, *(_field(table, column) for column in TABLES[table])],
    }


def _field(table: str, column: pa.Field) -> dict[str, Any]:
    words = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
    head = {"@type": "cr:Field", "@id": f"{table}/{column.name}", "name": column.name}
    if words:
        head["description"] = "; ".join(f"{key}: {value}" for key, value in words.items())
    return head | _typed(table, column.name, column.type, f"{table}/{column.name}", ())


def _typed(
    table: str, column: str, kind: pa.DataType, where: str, path: tuple[str, ...]
) -> dict[str, Any]:
    """What an Arrow type is in Croissant; `path` leads from the column to a field of a struct."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        shape = []
        while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            shape.append(kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
            kind = kind.value_type
        inner = _typed(table, column, kind, where, path)
        return inner | {"isArray": True, "arrayShape": ",".join(map(str, shape))}
    if column == "event_preview":
        source = _source(table, column, ("bytes",))
        return {"dataType": "sc:ImageObject", "source": source}
    if pa.types.is_struct(kind):
        return {
            "subField": [
                {"@type": "cr:Field", "@id": f"{where}/{field.name}", "name": field.name}
                | _typed(table, column, field.type, f"{where}/{field.name}", (*path, field.name))
                for field in kind
            ]
        }
    return {"dataType": TYPES[str(kind)], "source": _source(table, column, path)}


def _source(table: str, column: str, path: tuple[str, ...]) -> dict[str, Any]:
    source: dict[str, Any] = {
        "fileSet": {"@id": f"{table}-files"},
        "extract": {"column": column},
    }
    return source | ({"transform": [{"jsonPath": name} for name in path]} if path else {})


def _responsibility(stats: dict[str, Any], facts: BuildFacts) -> dict[str, Any]:
    """Croissant's responsible-AI properties, each a fact of this build."""
    steps = [f"windows {facts.rules}"]
    tools, limits = [], ["few wearers; one annotator's choice of what mattered at one moment"]
    if facts.imu:
        steps.append(f"IMU resampled to {facts.imu_rate_hz:g} Hz from true time stamps")
    if facts.events_computed:
        steps.append(f"events computed from video frames, sim_id {facts.sim_id}")
        tools.append("egotriad's model of an event camera (parameters in provenance.json)")
        limits.append("events are synthetic: between two frames they follow from interpolation")
    values: dict[str, Any] = {
        "rai:dataCollection": f"cut from recordings of {', '.join(value_counts(stats, 'source'))}",
        "rai:dataCollectionType": ["Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": steps,
        "rai:dataAnnotationProtocol": [
            f"origin of texts: {', '.join(value_counts(stats, 'text_source'))}"
        ],
        "rai:machineAnnotationTools": tools,
        "rai:dataBiases": ["activities and places are those the source chose to record"],
        "rai:dataLimitations": limits,
        "rai:personalSensitiveInformation": [
            "body motion and texts of people's acts; wearers' ids as in the source; no video"
        ],
        "rai:dataReleaseMaintenancePlan": "revisions are tagged; files never change under a tag",
    }
    return {name: value for name, value in values.items() if value}
