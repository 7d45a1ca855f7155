"""What every EC2 machine can ask about itself, for one question: which type of machine it is.

`python metadata.py TYPE` answers at 169.254.169.254 as version 2 of the instance metadata service does: a token first,
by PUT and with a time to live, then the type for whoever shows that token.
"""

import secrets
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

ADDRESS = ("169.254.169.254", 80)


class Metadata(BaseHTTPRequestHandler):
    """Answers, with the names that handlers of `http.server` have."""

    token: ClassVar[str] = secrets.token_hex()

    def do_PUT(self) -> None:
        """Give the token out."""
        asked = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._answer(self.token if asked else None, otherwise=HTTPStatus.BAD_REQUEST)

    def do_GET(self) -> None:
        """Tell the type."""
        if self.headers.get("X-aws-ec2-metadata-token") != self.token:
            self._answer(None, otherwise=HTTPStatus.UNAUTHORIZED)
        else:
            known = self.path == "/latest/meta-data/instance-type"
            self._answer(sys.argv[1] if known else None, otherwise=HTTPStatus.NOT_FOUND)

    def _answer(self, text: str | None, *, otherwise: HTTPStatus) -> None:
        if text is None:
            self.send_error(otherwise)
            return
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(ADDRESS, Metadata).serve_forever()
