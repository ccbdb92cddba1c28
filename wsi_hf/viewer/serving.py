"""Serve the viewer on loopback until it is interrupted."""

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence

import uvicorn

from wsi_hf.viewer.app import viewer_app
from wsi_hf.viewer.shown_slide import ShownSlide

LOOPBACK = "127.0.0.1"


def serve_viewer(
    slides: Sequence[ShownSlide], port: int = 0, browser: bool = True, say: Callable[[str], None] = print
) -> None:
    """Serve until Ctrl-C.

    Args:
        slides: what to show.
        port: 0 takes a free one.
        browser: open the page in the user's browser.
        say: is told the address.
    """
    token = secrets.token_urlsafe(24)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, port))
        address = f"http://{LOOPBACK}:{listening.getsockname()[1]}/{token}/"
        config = uvicorn.Config(viewer_app(slides, token), log_level="warning", access_log=False, server_header=False)
        say(address)
        if browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        uvicorn.Server(config).run(sockets=[listening])
