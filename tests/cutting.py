"""A proxy on loopback that resets each connection after so many bytes one way.

python tests/cutting.py --listen PORT --to HOST:PORT --cut up|down --cut-after BYTES
"""

import argparse
import contextlib
import socket
import struct
import threading


def main() -> None:
    about = argparse.ArgumentParser()
    about.add_argument("--listen", type=int, required=True)
    about.add_argument("--to", required=True)
    about.add_argument("--cut", choices=("up", "down"), required=True)
    about.add_argument("--cut-after", type=int, required=True)
    given = about.parse_args()
    host, _, port = given.to.rpartition(":")
    with socket.create_server(("127.0.0.1", given.listen)) as server:
        while True:
            near, _ = server.accept()
            far = socket.create_connection((host, int(port)))
            for way, source, sink in (("up", near, far), ("down", far, near)):
                most = given.cut_after if way == given.cut else None
                threading.Thread(target=pump, args=(source, sink, most), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket, most: int | None) -> None:
    """Pass on what comes; after `most` bytes reset both ends."""
    passed = 0
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 14):
            sink.sendall(part if most is None else part[: most - passed])
            passed += len(part)
            if most is not None and passed >= most:
                for end in (source, sink):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
                    end.close()
                return
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
