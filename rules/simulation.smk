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
        # It takes all cores, and would wait until none is at work.
        priority: 200
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

    if config["pack"]:

        rule write_own_tables:
            """Write the sample sheet and the platemap that a lab of its own would write for its plates."""
            input:
                gallery=GALLERY,
            output:
                sheet=config["sample_sheet"],
                platemap=f"{RESULTS}/platemap.csv",
            log:
                f"{RESULTS}/logs/write_own_tables.log",
            benchmark:
                f"{RESULTS}/benchmarks/write_own_tables.tsv"
            conda:
                "../envs/images.yaml"
            resources:
                mem_mb=growing(1000),
                runtime=growing(10),
            params:
                lab=config["target_sources"][0],
                code=code("write_own_tables"),
            script:
                "../scripts/write_own_tables.py"
