"""From images to 8-bit crops, one job a plate.

In: <results>/images, index and manifests of a plate. Out: <results>/illumination/<source>/<plate>.npz,
<results>/crops/<source>/<plate>.arrow and <results>/quality/<source>/<plate>.parquet; where the config
asks for the gallery's, <results>/functions/<source>/<plate>/<channel>.npy and <results>/nuclei/<source>/<plate>.parquet.
"""

FUNCTIONS = [
    f"{RESULTS}/functions/{{source}}/{{plate}}/{channel}.npy" for channel in config["channels"]
]


rule download_functions:
    """Fetch the gallery's own illumination functions of a plate."""
    input:
        gallery=GALLERY,
        index=rules.index_plate.output.index,
        code=code("download_functions"),
    output:
        functions=FUNCTIONS,
    log:
        f"{RESULTS}/logs/download_functions/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_functions/{{source}}/{{plate}}.tsv"
    priority: 10
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        root=lambda wildcards: root_of(**wildcards),
        channels=config["channels"],
    script:
        "../scripts/download_functions.py"


rule download_nuclei:
    """Fetch the centres of the gallery's own nuclei of a plate; none are an empty table."""
    input:
        gallery=GALLERY,
        index=rules.index_plate.output.index,
        code=code("download_nuclei"),
    output:
        nuclei=f"{RESULTS}/nuclei/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/download_nuclei/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_nuclei/{{source}}/{{plate}}.tsv"
    priority: 10
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        root=lambda wildcards: root_of(**wildcards),
    script:
        "../scripts/download_nuclei.py"


rule estimate_illumination:
    """Gather a plate's statistics: illumination function and intensity range of each channel."""
    input:
        index=rules.index_plate.output.index,
        images=rules.download_plate.output.images,
        manifest=rules.download_plate.output.manifest,
        code=code("estimate_illumination"),
    output:
        illumination=f"{RESULTS}/illumination/{{source}}/{{plate}}.npz",
    log:
        f"{RESULTS}/logs/estimate_illumination/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/estimate_illumination/{{source}}/{{plate}}.tsv"
    # Plates on the way go first, so that their images make room before new ones come.
    priority: 10
    conda:
        "../envs/images.yaml"
    threads: PLATE_THREADS
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        image_store=1,
    params:
        channels=config["channels"],
        min_sites=config["crops"]["min_sites"],
    script:
        "../scripts/estimate_illumination.py"


# The gallery's own functions and nuclei are fetched only where they are asked for.
GALLERY_FUNCTIONS = FUNCTIONS if config["crops"]["illumination"] == "gallery" else []
GALLERY_NUCLEI = (
    rules.download_nuclei.output.nuclei
    if (config["crops"]["kind"], config["crops"]["nuclei"]) == ("cells", "gallery")
    else []
)


rule extract_crops:
    """Correct, compress and cut every site of a plate into its crop store."""
    input:
        index=rules.index_plate.output.index,
        images=rules.download_plate.output.images,
        manifest=rules.download_plate.output.manifest,
        illumination=rules.estimate_illumination.output.illumination,
        functions=GALLERY_FUNCTIONS,
        nuclei=GALLERY_NUCLEI,
        code=code("extract_crops"),
    output:
        crops=f"{RESULTS}/crops/{{source}}/{{plate}}.arrow",
    log:
        f"{RESULTS}/logs/extract_crops/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_crops/{{source}}/{{plate}}.tsv"
    priority: 20
    conda:
        "../envs/images.yaml"
    threads: PLATE_THREADS
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        image_store=1,
    params:
        settings={
            key: config["crops"][key]
            for key in ("kind", "size", "illumination", "um_per_pixel", "flags")
        },
        um_per_pixel=lambda wildcards: config["sources"][wildcards.source]["um_per_pixel"],
        channels=config["channels"],
    script:
        "../scripts/extract_crops.py"


rule inspect_plate:
    """Say what became of every site of a plate: kept, flagged or lost, and why."""
    input:
        index=rules.index_plate.output.index,
        illumination=rules.estimate_illumination.output.illumination,
        crops=rules.extract_crops.output.crops,
        code=code("inspect_plate"),
    output:
        quality=f"{RESULTS}/quality/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/inspect_plate/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/inspect_plate/{{source}}/{{plate}}.tsv"
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        channels=config["channels"],
        limits=config["crops"]["flags"],
    script:
        "../scripts/inspect_plate.py"
