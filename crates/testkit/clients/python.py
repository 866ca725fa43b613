"""A day in the life of a program that uses Docker's SDK for Python, unchanged, against the socket in DOCKER_HOST.

Arguments: an image with busybox, a label value, and `ports` where published ports can be reached from here.
Each step prints its name; the first surprise ends the program with a traceback.
"""

import io
import sys
import tarfile
import threading
import time
import urllib.request

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import LogConfig, Mount

image, label, *flags = sys.argv[1:]
labels = {"dhow-test": label}
client = docker.from_env(timeout=120)


def step(name):
    print(name, flush=True)


def tar(**files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    packed.seek(0)
    return packed


def raises(kind, status, call):
    try:
        call()
    except kind as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"{kind.__name__} was expected")


step("ping, version, info")
assert client.ping()
version, info = client.version(), client.info()
assert version["Os"] == "linux" and info["OSType"] == "linux", info
assert info["ServerVersion"] == version["Version"]

step("run")
assert client.containers.run(image, ["echo", "hello"], remove=True, labels=labels) == b"hello\n"
try:
    client.containers.run(image, ["sh", "-c", "echo bad >&2; exit 7"], remove=True, labels=labels)
except ContainerError as error:
    assert error.exit_status == 7 and error.stderr == b"bad\n", error
else:
    raise AssertionError("exit 7 was expected")

step("errors are Docker's")
raises(NotFound, 404, lambda: client.containers.get("no-such-container"))
raises(ImageNotFound, 404, lambda: client.containers.create("no-such-image:1"))
raises(APIError, 400, lambda: client.api.create_container_from_config({"Image": image}, name="bad name"))

step("build")
context = tar(
    Dockerfile=f"FROM {image}\nARG WORD\nCOPY file.txt /file.txt\nRUN echo $WORD > /word\nLABEL dhow-test={label}\n".encode(),
    file_txt=b"content\n",
)
built, log = client.images.build(fileobj=context, custom_context=True, tag=f"{label}-built:1", buildargs={"WORD": "arg"}, rm=True)
assert any("Successfully built" in line.get("stream", "") for line in log)
assert built.labels["dhow-test"] == label
assert client.containers.run(built, ["cat", "/file.txt", "/word"], remove=True, labels=labels) == b"content\narg\n"

step("tag, history, save, load")
assert built.tag(f"{label}-built", "2")
saved = b"".join(built.save(named=True))
assert len(built.history()) >= 3
client.images.remove(f"{label}-built:2")
client.images.remove(f"{label}-built:1", force=True)
(loaded,) = client.images.load(saved)
assert loaded.id == built.id

step("network, volume, environment, limits")
network = client.networks.create(f"{label}-net", driver="bridge", labels=labels)
volume = client.volumes.create(f"{label}-vol", labels=labels)
server = client.containers.run(
    image,
    ["sh", "-c", "echo $GREETING > /data/index.html; echo serving; exec httpd -f -p 80 -h /data"],
    name=f"{label}-server", detach=True, labels=labels, environment={"GREETING": "over the port"},
    network=network.name, mounts=[Mount("/data", volume.name)], ports={"80/tcp": ("127.0.0.1", None)},
    mem_limit="64m", nano_cpus=500_000_000, read_only=True, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
)
for line in server.logs(stream=True, follow=True):
    assert line == b"serving\n", line
    break
host = server.attrs["HostConfig"]
assert (host["Memory"], host["NanoCpus"], host["ReadonlyRootfs"]) == (64 << 20, 500_000_000, True), host
network.reload()
assert server in network.containers
reached = client.containers.run(
    image, ["wget", "-q", "-O", "-", f"http://{label}-server/"], network=network.name, remove=True, labels=labels
)
assert reached == b"over the port\n", reached

if "ports" in flags:
    step("published port")
    server.reload()
    (binding,) = server.ports["80/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    with urllib.request.urlopen(f"http://127.0.0.1:{binding['HostPort']}/", timeout=60) as answer:
        assert answer.read() == b"over the port\n"

step("exec")
code, (out, err) = server.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)
assert (code, out, err) == (3, b"out\n", b"err\n")
socket = server.exec_run(["cat"], stdin=True, socket=True).output
socket._sock.sendall(b"through cat\n")
socket._sock.shutdown(1)
echoed = b""
while chunk := socket._sock.recv(4096):
    echoed += chunk
assert echoed.endswith(b"through cat\n"), echoed

step("files in and out")
assert server.put_archive("/data", tar(put_txt=b"put\n"))
chunks, stat = server.get_archive("/data/put.txt")
assert stat["name"] == "put.txt" and stat["size"] == 4, stat
with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
    assert archive.extractfile("put.txt").read() == b"put\n"
raises(NotFound, 404, lambda: server.get_archive("/data/none"))

step("top, stats, diff, inspect")
assert any("httpd" in " ".join(process) for process in server.top()["Processes"])
assert server.stats(stream=False)["memory_stats"]["usage"] > 0
assert server.diff() is None or isinstance(server.diff(), list)
server.reload()
assert server.attrs["State"]["Running"]

step("pause, rename, update, restart")
server.pause()
server.reload()
assert server.status == "paused"
server.unpause()
server.rename(f"{label}-renamed")
assert client.containers.get(f"{label}-renamed").id == server.id
server.update(mem_limit="96m", memswap_limit="192m")
server.restart(timeout=1)
server.reload()
assert server.status == "running" and server.attrs["HostConfig"]["Memory"] == 96 << 20
raises(APIError, 409, lambda: client.containers.create(image, name=f"{label}-renamed"))
raises(APIError, 409, lambda: server.remove())

step("events and wait")
seen = []
stream = client.events(decode=True, filters={"label": f"dhow-test={label}", "type": "container"})
watcher = threading.Thread(target=lambda: seen.extend(event["Action"] for event in stream), daemon=True)
watcher.start()
time.sleep(1)
short = client.containers.create(image, ["sh", "-c", "exit 5"], labels=labels)
short.start()
assert short.wait(timeout=60)["StatusCode"] == 5
short.remove()
deadline = time.monotonic() + 60
while "destroy" not in seen and time.monotonic() < deadline:
    time.sleep(0.1)
stream.close()
watcher.join(10)
assert [word for word in seen if word in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"], seen

step("attach")
attached = client.containers.create(image, ["cat"], stdin_open=True, labels=labels)
wire = attached.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
attached.start()
wire._sock.sendall(b"attached\n")
said = wire._sock.recv(4096)
assert said.endswith(b"attached\n") and said[0] == 1, said
wire._sock.shutdown(1)
wire.close()
attached.remove(force=True)

step("commit, list, prune")
committed = server.commit(repository=f"{label}-committed", tag="1", changes=["ENV ADDED=yes"])
assert client.containers.run(committed, ["sh", "-c", "echo $ADDED"], remove=True, labels=labels) == b"yes\n"
mine = {"label": f"dhow-test={label}"}
assert [c.id for c in client.containers.list(filters=mine)] == [server.id]
server.remove(force=True)
pruned = client.networks.prune(filters=mine)
assert pruned["NetworksDeleted"] == [f"{label}-net"], pruned
volume.remove()
assert client.containers.list(all=True, filters=mine) == []
for tag in (f"{label}-committed:1", f"{label}-built:1"):
    client.images.remove(tag, force=True)
step("done")
