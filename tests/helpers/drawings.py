"""What holds for the text of every figure."""

from coda.figures.style import TEXT, WIDTH
from matplotlib.text import Text


def assert_readable(figure):
    """No text under 7 points, nothing cut off, no wider than a page."""
    assert figure.get_size_inches()[0] <= WIDTH + 1e-9
    figure.canvas.draw()
    assert all(text.get_fontsize() >= TEXT for text in figure.findobj(Text))
    drawn, page = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= page[0] + 0.01 and drawn.y1 <= page[1] + 0.01


def overlapping(labels):
    boxes = [
        label.get_window_extent() for label in labels if label.get_text() and label.get_visible()
    ]
    return any(
        one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[index + 1 :]
    )
