"""The viewer's web application: it answers for the slides it was given, by their numbers, and for nothing else.

No address holds a path, so none can lead out of a folder. Every address begins with a random token, and requests for
another host's name are refused: another page in the browser can neither guess the one nor forge the other.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from wsi_hf.slides.handles import SlideError
from wsi_hf.viewer.outlines import lesion_outlines, svg_path
from wsi_hf.viewer.reviews import read_verdicts, save_verdict
from wsi_hf.viewer.shown_slide import ShownSlide
from wsi_hf.viewer.tiles import Tiles

PAGE = {
    "": ("viewer.html", "text/html"),
    "viewer.js": ("viewer.js", "text/javascript"),
    "overlay.js": ("overlay.js", "text/javascript"),
    "viewer.css": ("viewer.css", "text/css"),
    "openseadragon.min.js": ("openseadragon.min.js", "text/javascript"),
}
HOSTS = ["127.0.0.1", "localhost"]
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LARGEST_REQUEST = 4096
"""Bytes of a verdict."""


def viewer_app(slides: Sequence[ShownSlide], token: str) -> Starlette:
    """The application; all it serves lies under `/<token>/`."""
    answers = Answers(slides)
    routes = [
        Route("/slides", answers.listing),
        Route("/slides/{number:int}", answers.slide),
        Route("/slides/{number:int}/slide/{level:int}/{column:int}_{row:int}.jpg", answers.slide_tile),
        Route("/slides/{number:int}/map/{level:int}/{column:int}_{row:int}.png", answers.map_tile),
        Route("/slides/{number:int}/verdict", answers.decide, methods=["PUT"]),
        *(Route(f"/{name}", _page_file(*where)) for name, where in PAGE.items()),
    ]
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(BaseHTTPMiddleware, dispatch=_guarded)]
    return Starlette(routes=[Mount(f"/{token}", routes=routes)], middleware=guards)


class Answers:
    """What the addresses of the slides answer."""

    def __init__(self, slides: Sequence[ShownSlide]) -> None:
        self._slides, self._tiles = slides, Tiles(slides)

    def listing(self, request: Request) -> Response:
        """All slides, the highest score first."""
        return JSONResponse([self._entry(number) for number in range(len(self._slides))])

    def slide(self, request: Request) -> Response:
        """What one slide's page shows."""
        number = self._number(request)
        shown, problems = self._slides[number], list[str]()
        sources = {"slide": _or_problem(lambda: self._tiles.slide_source(number), problems)}
        sources["map"] = _or_problem(lambda: self._tiles.map_source(number), problems)
        lesions = _or_problem(shown.lesions, problems) or {"features": []}
        truth = _or_problem(shown.truth, problems)
        source = sources["map"]
        map_pixel = source["width_l0"] / source["width"] if source else 1.0
        facts = {
            "size_l0": shown.size_l0,
            "mpp": shown.mpp,
            "lesions": lesion_outlines(lesions, map_pixel, read_verdicts(shown.review_path)),
            "lesions_in_all": len(lesions["features"]),
            "truth": None if truth is None else svg_path(truth, map_pixel / 2),
            "problems": problems,
        }
        return JSONResponse(self._entry(number) | sources | facts)

    def slide_tile(self, request: Request) -> Response:
        return _tile(self._tiles.slide_tile, self._number(request), request, "image/jpeg")

    def map_tile(self, request: Request) -> Response:
        return _tile(self._tiles.map_tile, self._number(request), request, "image/png")

    async def decide(self, request: Request) -> Response:
        """Save a verdict on a lesion: {"lesion": id, "verdict": "accepted", "rejected" or null}."""
        shown = self._slides[self._number(request)]
        if request.headers.get("content-type") != "application/json":  # a form of another page cannot send this
            raise HTTPException(415)
        if int(request.headers.get("content-length", LARGEST_REQUEST + 1)) > LARGEST_REQUEST:
            raise HTTPException(413)
        try:
            asked = json.loads(await request.body())
            lesion, verdict = str(asked["lesion"]), asked["verdict"]
            await run_in_threadpool(save_verdict, shown.review_path, shown.lesions(), lesion, verdict)
        except (ValueError, KeyError, TypeError) as error:
            raise HTTPException(400, f"no verdict on a lesion: {error}") from error
        except OSError as error:
            raise HTTPException(500, f"the verdict cannot be saved: {error}") from error
        return JSONResponse({"saved": shown.review_path.name})

    def _number(self, request: Request) -> int:
        number = request.path_params["number"]
        if number >= len(self._slides):
            raise HTTPException(404)
        return number

    def _entry(self, number: int) -> dict[str, Any]:
        shown = self._slides[number]
        facts = ("slide_id", "verdict", "score", "raw_score", "truth_label")
        decided = len(read_verdicts(shown.review_path))
        return {"number": number, "decided": decided, **{name: getattr(shown, name) for name in facts}}


def _or_problem(read: Callable[[], Any], problems: list[str]) -> Any:
    """What is read, or None with a word on why not: the rest of the page is shown."""
    try:
        return read()
    except (SlideError, OSError, ValueError, KeyError) as error:
        problems.append(str(error))
        return None


def _tile(render: Callable[..., bytes], number: int, request: Request, kind: str) -> Response:
    place = (request.path_params[name] for name in ("level", "column", "row"))
    try:
        content = render(number, *place)
    except (IndexError, SlideError, OSError) as error:
        raise HTTPException(404) from error
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})


def _page_file(name: str, kind: str) -> Callable[[Request], Response]:
    content = (files("wsi_hf.viewer") / "static" / name).read_bytes()

    def answer(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return answer


async def _guarded(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add the headers that keep other pages out."""
    response = await go_on(request)
    response.headers.update(HEADERS)
    return response
