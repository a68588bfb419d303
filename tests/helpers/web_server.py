"""A web server that gives the answers of a test, whole, cut or without end."""

import contextlib
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def web_server(answers, certificate=None, key=None):
    """Serve GET requests by the functions in `answers`, one a request, the last one for good."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.path)
            answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # clients that leave early
    server.pause, server.daemon_threads, server.block_on_close = threading.Event(), True, False
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def body(data, length=None):
    """Answer with `data`, claiming `length` bytes."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def status(code, location=None):
    """Answer with a status and no body."""

    def answer(handler):
        handler.send_response(code)
        if location:
            handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def raw(*pieces, endless=b""):
    """Answer with bytes as they are, then close the connection, or go on for ever."""

    def answer(handler):
        with contextlib.suppress(OSError):
            for piece in pieces:
                handler.wfile.write(piece)
            while endless:
                handler.wfile.write(endless)
                handler.server.pause.wait(0.02 if len(endless) < 9 else 0)
        handler.close_connection = True

    return answer
