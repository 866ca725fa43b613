"""Testcontainers for Python, unchanged, against the socket in DOCKER_HOST: a web server and a key-value store for a test.

Arguments: an image with Debian's nginx, redis and bash, and a label value. Its own janitor, which is an image of a registry, is
switched off by TESTCONTAINERS_RYUK_DISABLED.
"""

import socket
import sys
import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

image, label = sys.argv[1:]


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
    web = labelled(["bash", "-c", "mkdir -p /srv && echo $WORD > /srv/index.html && cd /srv && exec busybox httpd -f -p 80 || "
                    "exec nginx -g 'daemon off; error_log stderr notice;'"]).with_env("WORD", "a page").with_exposed_ports(80)
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
        for attempt in range(60):
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    assert answer.status == 200
                    break
            except (ConnectionError, OSError) as error:
                last = error
                import time

                time.sleep(0.5)
        else:
            raise AssertionError(f"{url}: {last}")
    gone = store.get_wrapped_container()
    assert gone is None or gone.client.containers.list(all=True, filters={"id": gone.id}) == []
print("done")
