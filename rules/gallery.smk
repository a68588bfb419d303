"""From the gallery to images on the disk, one job a plate.

In: <results>/index/<source>/<plate>.parquet. Out: <results>/images/<source>/<plate>/ (gone once its crops
exist) and <results>/manifests/<source>/<plate>.parquet, which stays.
"""

IMAGES = f"{RESULTS}/images/{{source}}/{{plate}}"


rule download_plate:
    """Fetch and verify all images of a plate."""
    input:
        gallery=GALLERY,
        index=rules.index_plate.output.index,
        code=code("download_plate"),
    output:
        images=directory(IMAGES) if config["gallery"]["keep_images"] else temp(directory(IMAGES)),
        manifest=f"{RESULTS}/manifests/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/download_plate/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_plate/{{source}}/{{plate}}.tsv"
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=lambda wildcards, attempt: 240 * attempt,
        plates_in_flight=1,
    params:
        gallery={
            key: config["gallery"][key]
            for key in ("root", "endpoint", "region", "workers", "attempts", "timeout")
        },
        channels=config["channels"],
        max_lost=config["gallery"]["max_lost"],
    script:
        "../scripts/download_plate.py"
