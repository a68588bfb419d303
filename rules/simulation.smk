"""A simulated gallery, where the config asks for one.

Needs: nothing.
Gives: <results>/gallery with images and the public tables, in the exact form of the Cell Painting Gallery.
"""

GALLERY = f"{RESULTS}/gallery" if "simulation" in config else []

if "simulation" in config:

    rule simulate_gallery:
        """Draw plates in the exact form of the Cell Painting Gallery."""
        output:
            gallery=directory(GALLERY),
        log:
            f"{RESULTS}/logs/simulate_gallery.log",
        benchmark:
            f"{RESULTS}/benchmarks/simulate_gallery.tsv"
        conda:
            "../envs/images.yaml"
        threads: 16
        resources:
            mem_mb=growing(4000),
            runtime=growing(60),
        params:
            settings=config["simulation"],
            code=code("simulate_gallery"),
        script:
            "../scripts/simulate_gallery.py"
