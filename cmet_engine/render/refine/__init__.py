"""The refiner: a draft warped from the frame is blended with what other frames of the clip show better."""
