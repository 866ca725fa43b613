"""A TLS client that sends its ClientHello byte by byte: slow.py ADDRESS PORT NAME. Prints the server's first line."""

import socket
import ssl
import sys

address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(to_us, to_them, server_hostname=name)
plain = socket.create_connection((address, port), timeout=10)
plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def pump(step):
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            for byte in to_them.read():
                plain.sendall(bytes([byte]))
            got = plain.recv(65536)
            if not got:
                sys.exit("closed")
            to_us.write(got)


pump(tls.do_handshake)
tls.write(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
print(pump(lambda: tls.read(100)).decode().splitlines()[0])
