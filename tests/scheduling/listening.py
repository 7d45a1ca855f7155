"""Where processes can be reached from."""

import ipaddress
import socket
from collections.abc import Iterable

import psutil


def listening_addresses(processes: Iterable[psutil.Process]) -> set[str]:
    """Addresses that processes accept connections, or UDP packets of anybody, on."""
    addresses = set()
    for process in processes:
        try:
            connections = process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        addresses |= {
            connection.laddr.ip
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
            or (connection.type == socket.SOCK_DGRAM and not connection.raddr)
        }
    return addresses


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
