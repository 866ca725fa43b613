"""The world beyond the host, for egress.rs: web servers on every address, two DNS servers, an echo and a protocol in which
the server speaks first; or the host itself: a service on loopback, and one on all of its addresses. Whatever reaches it is written down: `dns NAME`, `open ADDRESS PORT`,
`data ADDRESS PORT`, `request HOST PATH`, `datagram ADDRESS PORT`."""

import http.server
import ipaddress
import socket
import socketserver
import ssl
import struct
import sys
import threading

CERTIFICATE, KEY, LOG, PLACE = sys.argv[1:5]
GOOD, OTHER, INSIDE = "93.184.215.14", "93.184.215.15", "10.9.8.7"
ZONE = {
    "good.example": [GOOD, "2606:2800:21f::14"],
    "www.good.example": [GOOD],
    "rebind.good.example": [INSIDE],
    "loop.good.example": ["127.0.0.1"],
    "host.good.example": ["198.19.68.254"],
    "meta.good.example": ["169.254.169.254"],
    "meta6.good.example": ["fd00:ec2::254"],
    "mapped.good.example": ["::ffff:10.9.8.7"],
    "nat64.good.example": ["64:ff9b::a09:807"],
    "mixed.good.example": [GOOD, INSIDE],
    "evil.example": [OTHER],
}
FLIPS = iter([GOOD] + [INSIDE] * 1000)
written = threading.Lock()


def note(*words):
    with written, open(LOG, "a") as log:
        print(*words, file=log, flush=True)


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        note("request", self.headers.get("Host"), self.path)
        body = b"welcome\n"
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    tls = None

    def __init__(self, address, port, tls=None):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.tls = tls
        super().__init__((address, port), Web)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def finish_request(self, request, client):
        here = request.getsockname()[:2]
        note("open", *here)
        request.settimeout(15)
        if request.recv(1, socket.MSG_PEEK):
            note("data", *here)
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client)

    def handle_error(self, *_):
        pass


def greet(listener):
    """The server speaks first, as in SMTP."""
    while True:
        client, _ = listener.accept()
        client.sendall(b"220 welcome\r\n")
        threading.Thread(target=lambda c=client: (c.recv(100) and note("data", "greeter", 2525), c.close()), daemon=True).start()


def answer(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    name = ".".join(labels).lower()
    kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
    note("dns", name)
    if name == "flip.good.example":
        addresses = [next(FLIPS)] if kind == 1 else []
    elif name.endswith(".evil.example"):
        addresses = [OTHER]
    else:
        addresses = ZONE.get(name)
    records = b""
    count = 0
    for address in map(ipaddress.ip_address, addresses or []):
        if kind == {4: 1, 6: 28}[address.version]:
            data = address.packed
            records += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(data)) + data
            count += 1
    code = 0x8180 if addresses is not None else 0x8183
    return query[:2] + struct.pack(">HHHHH", code, 1, count, 0, 0) + query[12 : at + 5] + records


def dns(address):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 53))

    def datagrams():
        while True:
            query, client = udp.recvfrom(4096)
            udp.sendto(answer(query), client)

    class Stream(socketserver.BaseRequestHandler):
        def handle(self):
            length = struct.unpack(">H", self.request.recv(2))[0]
            reply = answer(self.request.recv(length))
            self.request.sendall(struct.pack(">H", len(reply)) + reply)

    class Streams(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    threading.Thread(target=datagrams, daemon=True).start()
    threading.Thread(target=Streams((address, 53), Stream).serve_forever, daemon=True).start()


def echo(address, port):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, port))
    while True:
        data, client = udp.recvfrom(4096)
        note("datagram", address, port)
        udp.sendto(data, client)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
if PLACE == "world":
    servers = [Server("0.0.0.0", 80), Server("::", 80), Server("0.0.0.0", 443, context), Server("::", 443, context)]
    greeter = socket.create_server((GOOD, 2525))
    threading.Thread(target=greet, args=(greeter,), daemon=True).start()
    dns("203.0.113.53")
    dns(OTHER)
    threading.Thread(target=echo, args=(GOOD, 443), daemon=True).start()
else:
    servers = [Server("127.0.0.1", 8081), Server("::1", 8081), Server("0.0.0.0", 8082), Server("::", 8082)]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
note("ready")
threading.Event().wait()
