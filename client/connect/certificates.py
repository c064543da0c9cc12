"""What is wrong with a coordinator's certificate, in words, and what to do."""

import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from prostafed.common.shell.health import Condition

RENEW_BEFORE = timedelta(days=30)

# OpenSSL's reasons -> what is wrong, what to do.
_REFUSED = {
    9: ("is not valid yet", "Check the clock of this machine."),
    10: ("has expired", "Ask the coordinator to renew it, or check the clock of this machine."),
    18: ("was signed by nobody known", "Ask the coordinator for its current ca.crt."),
    19: ("was signed by another authority", "Ask the coordinator for its current ca.crt; a proxy may also replace it."),
    20: ("was signed by another authority", "Ask the coordinator for its current ca.crt; a proxy may also replace it."),
    62: ("is for another host name", "Use the name the coordinator gave, or ask it to add this one (init --host)."),
    64: ("is for another address", "Use the name the coordinator gave, or ask it to add this one (init --host)."),
}


def explain_refusal(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """Return what the certificate is or is not, as the end of a sentence, and what to do."""
    return _REFUSED.get(error.verify_code, ("is not accepted", "Ask the coordinator for its current ca.crt."))


def check_authority(path: Path, now: datetime) -> Condition:
    """Does the coordinator's certificate authority, a file at the site, hold? Its end is said before it comes."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        fix = "Ask the coordinator for its file ca.crt and put it there."
        return Condition("certificate", False, f"{path.name} is not a certificate that can be read.", fix)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < start:
        fix = "Check the clock of this machine."
        return Condition("certificate", False, f"The certificate is valid from {start:%Y-%m-%d} on.", fix)
    if now > end:
        fix = "Ask the coordinator for its new ca.crt."
        return Condition("certificate", False, f"The certificate expired on {end:%Y-%m-%d}.", fix)
    if end - now < RENEW_BEFORE:
        text = f"The certificate expires on {end:%Y-%m-%d}, in {(end - now).days} days."
        return Condition("certificate", True, text, "Ask the coordinator for its new ca.crt soon.")
    text = f"The coordinator's certificate authority is valid until {end:%Y-%m-%d}."
    return Condition("certificate", True, text)
