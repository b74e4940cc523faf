"""Pure decisions: which addresses a hook may be asked at.

A hook's URL comes from outside, so that asking it must never reach the cloud's metadata service or this host itself.
"""

import ipaddress
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure and others
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # GCP over IPv6
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle
    )
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


def refused(host_ip: str, development: bool = False) -> str | None:
    """Say why an address is not asked, or ``None`` when it may be. Loopback is asked in development mode only.

    IPv4 addresses inside IPv6 ones (mapped, compatible, 6to4, Teredo, NAT64) are judged as what they reach.
    """
    try:
        address: Address = ipaddress.ip_address(host_ip.partition("%")[0])
    except ValueError:
        return "it is not an address"
    if address.is_loopback:  # before unpacking, because ::1 looks like an embedded 0.0.0.1
        return None if development else "loopback is asked in development mode only"
    found = (_judge(one, development) for one in (address, *_inside(address)))
    return next((why for why in found if why is not None), None)


def _judge(address: Address, development: bool) -> str | None:
    if address in METADATA:
        return "it is a metadata address"
    if address.is_loopback:
        return None if development else "loopback is asked in development mode only"
    if address.is_link_local:
        return "link-local addresses are not asked"
    if address.is_multicast:
        return "multicast addresses are not asked"
    if address.is_unspecified or (address.version == 4 and address in _THIS_NETWORK):
        return "the unspecified address is not asked"
    if address.version == 4 and address.is_reserved:
        return "reserved addresses are not asked"
    return None


def _inside(address: Address) -> list[Address]:
    """List the IPv4 addresses that an IPv6 one carries."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    carried: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in carried if one is not None]


def wrong_url(url: str, development: bool = False) -> str | None:
    """Say what is wrong with a hook's URL as it stands, or ``None``. Never repeats the URL, which may hold a secret.

    A name is not resolved here; the address behind it is checked when the socket is made.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "the hook is not a URL - write it like http://10.0.0.5:8700/hook"
    if parts.scheme not in ("http", "https"):
        return "the hook must be an http or https URL"
    if not host:
        return "the hook's URL names no host"
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        return "the hook's URL holds spaces or control characters - encode them"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    why = refused(host, development)
    return None if why is None else f"the hook's address is refused: {why}"
