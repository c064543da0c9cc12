"""What is wrong with a coordinator's certificate, in words, and what to do."""

import ssl

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
