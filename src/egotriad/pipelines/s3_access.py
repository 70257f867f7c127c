"""Keys to a data set's S3 buckets, and what S3's refusals mean, in words that can be acted on.

S3 hardly tells them apart: it answers 403 to unapproved keys, and to a name that does not exist
where the keys may not list; expired keys of these data sets are deleted, so they are unknown. Keys
come from a profile of the AWS credentials file alone: the data sets' download programs name a
profile to boto3, which then takes no keys from the environment.
"""

from dataclasses import dataclass
from typing import Any

from egotriad.manifests.errors import AccessDenied, DownloadError, MissingDependency

__all__ = ["Refusal", "Terms", "open_s3", "probe_object", "refusal", "s3_errors"]

UNKNOWN_KEY = frozenset({"InvalidAccessKeyId", "InvalidClientTokenId", "ExpiredToken"})
DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "403", "Forbidden"})
ABSENT = frozenset({"NoSuchKey", "NoSuchBucket", "404", "NotFound"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Where a data set's keys come from.

    Attributes:
        dataset: what people call it.
        sign_url: where its licence is signed; signing again renews the keys.
        profile: of the AWS credentials file.
    """

    dataset: str
    sign_url: str
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why S3 gave nothing.

    Attributes:
        reason: no-profile, no-keys, expired-keys, wrong-secret, denied, missing-object, offline, or
            s3-error.
        message: what to do about it.
    """

    reason: str
    message: str

    @property
    def of_keys(self) -> bool:
        """Whether other keys would help."""
        return self.reason in ("no-profile", "no-keys", "expired-keys", "wrong-secret", "denied")

    def error(self) -> DownloadError:
        """As something to raise."""
        words = f"{self.reason}: {self.message}"
        return AccessDenied(words) if self.of_keys else DownloadError(words)


def open_s3(terms: Terms) -> Any:
    """A boto3 client with the keys of the profile, read from the file now.

    Raises:
        AccessDenied: the file has no such profile.
        MissingDependency: boto3 is not installed.
    """
    try:
        import boto3.session
        from botocore.config import Config
    except ImportError as exc:
        raise MissingDependency(
            f"downloading {terms.dataset} needs its download program: pip install 'egotriad[ego4d]'"
        ) from exc
    try:
        session = boto3.session.Session(profile_name=terms.profile)
        return session.client(
            "s3",
            region_name=session.region_name or "us-east-1",
            config=Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=30),
        )
    except s3_errors() as exc:
        raise refusal(exc, terms, "").error() from exc


def s3_errors() -> tuple[type[Exception], ...]:
    """What boto3 raises when S3 or the way there refuses."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def probe_object(client: Any, terms: Terms, bucket: str, key: str) -> Refusal | None:
    """Asks for one byte of an object; None where it comes.

    A GET: unlike a HEAD it is answered with a reason.
    """
    try:
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
    except s3_errors() as exc:
        return refusal(exc, terms, f"s3://{bucket}/{key}")
    return None


def refusal(error: Exception, terms: Terms, name: str) -> Refusal:
    """What an exception of boto3 means.

    Args:
        error: the exception, one of `s3_errors`.
        terms: of the data set.
        name: of the object.
    """
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return _answer(error, terms, name)
    if isinstance(error, exceptions.ProfileNotFound):
        return Refusal(
            reason="no-profile",
            message=f"there is no AWS profile {terms.profile!r}; write the keys from "
            f"{terms.dataset}'s mail into it: aws configure --profile {terms.profile} (no keys "
            f"yet? sign the licence at {terms.sign_url}). Environment variables are not enough",
        )
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return Refusal(
            reason="no-keys",
            message=f"the AWS profile {terms.profile!r} holds no key and secret; write those from "
            f"{terms.dataset}'s mail into it: aws configure --profile {terms.profile}",
        )
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return Refusal(
            reason="offline",
            message=f"S3 cannot be reached ({error}); check the connection, or build what lies "
            "there with --no-download",
        )
    return Refusal(reason="s3-error", message=f"{name}: {error}")


def _answer(error: Any, terms: Terms, name: str) -> Refusal:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in UNKNOWN_KEY:
        return Refusal(
            reason="expired-keys",
            message=f"AWS does not know the keys of profile {terms.profile!r} (any more): "
            f"{terms.dataset}'s expire after 14 days; sign again at {terms.sign_url}, write the "
            "new ones into the profile, and run the same command again",
        )
    if code == "SignatureDoesNotMatch":
        return Refusal(
            reason="wrong-secret",
            message=f"the secret key of profile {terms.profile!r} does not belong to its key id; "
            f"copy both from {terms.dataset}'s mail again",
        )
    if code in ABSENT:
        return Refusal(reason="missing-object", message=f"{name}: does not exist on the server")
    if code in DENIED:
        return Refusal(
            reason="denied",
            message=f"{name}: the keys of profile {terms.profile!r} may not read it: they have "
            f"expired, are not (yet) approved for {terms.dataset} ({terms.sign_url}), or the name "
            "does not exist",
        )
    return Refusal(reason="s3-error", message=f"{name}: {code or error}")
