"""segbench: which encoder should my segmentation model have, and how sure can I be?"""
