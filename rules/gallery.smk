"""From the gallery to images on the disk, one job a plate.

In: <results>/index/<source>/<plate>.parquet. Out: <results>/images/<source>/<plate>/ (gone once its crops
exist) and <results>/manifests/<source>/<plate>.parquet, which stays.
"""

IMAGES = f"{RESULTS}/images/{{source}}/{{plate}}"
# A crop has 8 bits a pixel and channel.
CROP_BYTES = len(config["channels"]) * config["crops"]["size"] ** 2


rule download_plate:
    """Fetch and verify all images of a plate."""

    # The code is no input here, unlike everywhere else: a newer version of this workflow, in the middle of a study,
    # would fetch terabytes again whose every byte is checked already. To do so all the same: -R download_plate.
    input:
        gallery=GALLERY,
        index=rules.index_plate.output.index,
        # What else of the gallery the crops need comes first, so that no images wait for it on the disk.
        first=lambda wildcards: ancient(
            expand([*GALLERY_FUNCTIONS, *filter(None, [GALLERY_NUCLEI])], **wildcards)
        ),
    output:
        images=directory(IMAGES) if config["gallery"]["keep_images"] else temp(directory(IMAGES)),
        manifest=f"{RESULTS}/manifests/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/download_plate/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_plate/{{source}}/{{plate}}.tsv"
    # A plate that an earlier run began goes before new ones, which find no room while it lies there.
    priority: begun
    conda:
        "../envs/gallery.yaml"
    threads: PLATE_THREADS
    resources:
        mem_mb=growing(2000),
        runtime=growing(240),
        image_store=1,
    params:
        # How to fetch (workers, attempts, timeout, max_lost) is read by the script: it changes no image,
        # so a change of it must not fetch anything again.
        root=lambda wildcards: root_of(**wildcards),
        channels=config["channels"],
    script:
        "../scripts/download_plate.py"


rule plan_download:
    """Say what a run would download, by listing the gallery, without fetching an image."""
    input:
        gallery=GALLERY,
        plates=f"{RESULTS}/metadata/plates.csv",
        indexes=lambda wildcards: tables_of("index", *SOURCES),
        code=code("plan_download"),
    output:
        plan=f"{RESULTS}/plan.csv",
        text=f"{RESULTS}/plan.txt",
    log:
        f"{RESULTS}/logs/plan_download.log",
    benchmark:
        f"{RESULTS}/benchmarks/plan_download.tsv"
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        gallery={
            key: config["gallery"][key]
            for key in ("endpoint", "region", "workers", "attempts", "timeout")
        },
        roots=lambda wildcards: [
            root_of(source, plate) for source in SOURCES for plate in plates_of(source)
        ],
        wanted=lambda wildcards: dict(
            channels=config["channels"],
            functions=bool(GALLERY_FUNCTIONS),
            nuclei=bool(GALLERY_NUCLEI),
            crop_bytes=CROP_BYTES if config["crops"]["kind"] == "centre" else None,
            plates_in_flight=(
                None if config["gallery"]["keep_images"] else config["gallery"]["plates_in_flight"]
            ),
        ),
    script:
        "../scripts/plan_download.py"
