"""The metric's page on the Hub, run there with gradio."""

import evaluate
from evaluate.utils import launch_gradio_widget

if __name__ == "__main__":
    launch_gradio_widget(evaluate.load("froc.py"))
