"""Testcontainers for Python, unchanged, against the socket in DOCKER_HOST: a web server and a key-value store, as a test would have
them.

Arguments: an image with Debian's redis and socat, and a label value. Its own janitor, which is an image of a registry, is
switched off by TESTCONTAINERS_RYUK_DISABLED.
"""

import socket
import sys
import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

image, label, *_ = sys.argv[1:]


def labelled(command):
    return DockerContainer(image).with_command(command).with_kwargs(labels={"dhow-test": label})


def ask(address, *words):
    """One command of the store's protocol (RESP), and the first bytes of its answer."""
    with socket.create_connection(address, timeout=60) as connection:
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return connection.recv(4096)


with Network() as network:
    store = labelled("redis-server --bind 0.0.0.0 --protected-mode no --save ''").with_exposed_ports(6379)
    store = store.with_network(network).with_network_aliases("store")
    store = store.waiting_for(LogMessageWaitStrategy("Ready to accept connections").with_startup_timeout(180))
    answer = r'''printf 'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n%s\n' "$WORD" > /answer'''
    serve = "socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'read line; cat /answer'"
    web = labelled(["sh", "-c", f"{answer}; exec {serve}"])
    web = web.with_env("WORD", "a page").with_exposed_ports(80)
    web = web.waiting_for(HttpWaitStrategy(80).for_status_code(200).with_startup_timeout(120))
    with store, web:
        address = (store.get_container_host_ip(), int(store.get_exposed_port(6379)))
        assert ask(address, "SET", "key", "value") == b"+OK\r\n"
        code, out = store.exec(["redis-cli", "get", "key"])
        assert (code, out) == (0, b"value\n"), (code, out)
        inside = labelled("redis-cli -h store get key").with_network(network)
        with inside:
            assert inside.get_wrapped_container().wait(timeout=120)["StatusCode"] == 0
            assert inside.get_logs()[0] == b"value\n"
        url = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/"
        with urllib.request.urlopen(url, timeout=60) as page:
            content = page.read()
            assert content == b"a page\n", content
    gone = store.get_wrapped_container()
    assert gone is None or gone.client.containers.list(all=True, filters={"id": gone.id}) == []
print("done")
