"""All that is fetched: public tables, and of each plate its sites, images and what else of the gallery is asked for.

Needs: the tables that the config names; the gallery, or a folder with its layout.
Gives: <results>/metadata/*.csv (plates, and how many images each has) and compounds.parquet; of a plate <results>/index/<source>/<plate>.parquet,
<results>/images/<source>/<plate>/ (gone once its crops exist) and <results>/manifests/<source>/<plate>.parquet, which
stays; where the config asks for the gallery's, <results>/functions/<source>/<plate>/<channel>.npy and
<results>/nuclei/<source>/<plate>.parquet; <results>/plan.txt.
"""

TABLE = f"{RESULTS}/metadata/tables/{{table}}.parquet"
IMAGES = f"{RESULTS}/images/{{source}}/{{plate}}"
FUNCTIONS = [
    f"{RESULTS}/functions/{{source}}/{{plate}}/{channel}.npy" for channel in config["channels"]
]
# With a pack all plates are one's own, and nothing of JUMP's is asked for.
JUMP_TABLES = config["pack"] is None
# A crop has 8 bits a pixel and channel.
CROP_BYTES = len(config["channels"]) * config["crops"]["size"] ** 2


localrules:
    select_plates,


rule download_metadata:
    """Fetch one public table."""
    input:
        gallery=GALLERY,
    output:
        table=TABLE,
    log:
        f"{RESULTS}/logs/download_metadata/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_metadata/{{table}}.tsv"
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        location=lambda wildcards: config["tables"][wildcards.table],
        endpoint=config["gallery"]["endpoint"],
        code=code("download_metadata"),
    script:
        "../scripts/download_metadata.py"


rule label_compounds:
    """Give each compound its mechanism of action, where it has one."""
    input:
        compound=TABLE.format(table="compound"),
        platemap=TABLE.format(table="platemap"),
        target_compounds=TABLE.format(table="target_compounds"),
        drugs=TABLE.format(table="drugs"),
    output:
        compounds=f"{RESULTS}/metadata/compounds.parquet",
    log:
        f"{RESULTS}/logs/label_compounds.log",
    benchmark:
        f"{RESULTS}/benchmarks/label_compounds.tsv"
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        min_compounds=config["labels"]["min_compounds"],
        code=code("label_compounds"),
    script:
        "../scripts/label_compounds.py"


checkpoint select_plates:
    """Choose the plates that take part, and which of them are kept for validation."""
    input:
        plate=TABLE.format(table="plate") if JUMP_TABLES else [],
        sample_sheet=config["sample_sheet"] or [],
    output:
        plates=f"{RESULTS}/metadata/plates.csv",
    log:
        f"{RESULTS}/logs/select_plates.log",
    benchmark:
        f"{RESULTS}/benchmarks/select_plates.tsv"
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        plate_type=config["plate_type"],
        sources={
            source: {
                key: config["sources"][source][key]
                for key in ("validation_plate", "plates", "batches")
            }
            for source in SOURCES
        },
        exclude=config["exclude_plates"],
        code=code("select_plates"),
    script:
        "../scripts/select_plates.py"


def own_place(source, plate):
    """Give what the sample sheet says of where a plate lies and what is on it: root, layout and so on.

    Jobs that need the plates only for this do not wait for the checkpoint, whose dependents Snakemake
    plans twice: each has the index of its plate as input, so when it starts the plates are chosen.
    """
    path = f"{RESULTS}/metadata/plates.csv"
    plates = read_plates(path, os.stat(path).st_mtime_ns) if os.path.exists(path) else {}
    row = plates.get((source, plate), {})
    return {key: row[key] for key in PLACE_COLUMNS if row.get(key)}


def root_of(source, plate):
    """Give the root below which a plate's keys lie."""
    return own_place(source, plate).get("root", config["gallery"]["root"])


def rank(wildcards):
    """Rank plates to fetch: one that an earlier run began finds the room it has, and trainings wait for their source's."""
    images = IMAGES.format(**wildcards)
    begun = os.path.isdir(images) or os.path.isdir(f"{images}.partial")
    return 2 * begun + (wildcards.source in config["train_sources"])


rule index_plate:
    """List the sites of a plate with their compounds and the keys of their images."""
    input:
        gallery=GALLERY,
        # A plate's sites do not change when other plates are chosen.
        plates=ancient(f"{RESULTS}/metadata/plates.csv"),
        well=TABLE.format(table="well") if JUMP_TABLES else [],
        compounds=rules.label_compounds.output.compounds if JUMP_TABLES else [],
        layout=lambda wildcards: own_place(**wildcards).get("layout", []),
        platemap=lambda wildcards: own_place(**wildcards).get("platemap", []),
    output:
        index=f"{RESULTS}/index/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/index_plate/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/index_plate/{{source}}/{{plate}}.tsv"
    # All plates are checked before any trains, and what is wrong with a table is told before images are fetched.
    priority: 30
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        root=lambda wildcards: root_of(**wildcards),
        place=lambda wildcards: own_place(**wildcards),
        tokens=lambda wildcards: config["sources"][wildcards.source]["channels"],
        channels=config["channels"],
        choose=config["choose"],
        code=code("index_plate"),
    script:
        "../scripts/index_plate.py"


def all_roots(wildcards):
    """Give the root of each plate, in the order of `tables_of`."""
    return [root_of(source, plate) for source in SOURCES for plate in plates_of(source)]


def all_own(wildcards):
    """Tell of each plate, in the order of `tables_of`, whether the sample sheet says where it lies or what is on it."""
    return [
        source in READY or bool(own_place(source, plate))
        for source in SOURCES
        for plate in plates_of(source)
    ]


rule check_plates:
    """Refuse plates that share images, or lack a class, before any of them trains a network.

    It stands beside the way of the plates, not on it: what comes after a job that has to run, even behind an ancient
    input, is run for no reason of its own.
    """
    input:
        indexes=lambda wildcards: tables_of("index", *SOURCES),
        chosen=ancient(f"{RESULTS}/metadata/plates.csv"),
        well=TABLE.format(table="well") if JUMP_TABLES else [],
        compounds=rules.label_compounds.output.compounds if JUMP_TABLES else [],
    output:
        plates=f"{RESULTS}/metadata/images.csv",
        classes=f"{RESULTS}/metadata/classes.csv",
    log:
        f"{RESULTS}/logs/check_plates.log",
    benchmark:
        f"{RESULTS}/benchmarks/check_plates.tsv"
    priority: 100
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        roots=all_roots,
        choose={key: value for key, value in config["choose"].items() if key != "sites_per_well"},
        # Crops that were cut elsewhere come with their labels.
        training=[
            source for source in config["train_sources"] if source not in READY and JUMP_TABLES
        ],
        code=code("check_plates"),
    script:
        "../scripts/check_plates.py"


rule download_illumination:
    """Fetch the gallery's own illumination functions of a plate."""
    input:
        gallery=GALLERY,
        index=rules.index_plate.output.index,
    output:
        functions=FUNCTIONS,
    log:
        f"{RESULTS}/logs/download_illumination/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_illumination/{{source}}/{{plate}}.tsv"
    priority: 10
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        root=lambda wildcards: root_of(**wildcards),
        channels=config["channels"],
        code=code("download_illumination"),
    script:
        "../scripts/download_illumination.py"


rule download_nuclei:
    """Fetch the centres of the gallery's own nuclei of a plate; none are an empty table."""
    input:
        gallery=GALLERY,
        index=rules.index_plate.output.index,
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
        code=code("download_nuclei"),
    script:
        "../scripts/download_nuclei.py"


# The gallery's own functions and nuclei are fetched only where they are asked for.
GALLERY_FUNCTIONS = FUNCTIONS if config["crops"]["illumination"] == "gallery" else []
GALLERY_NUCLEI = (
    rules.download_nuclei.output.nuclei
    if (config["crops"]["kind"], config["crops"]["nuclei"]) == ("cells", "gallery")
    else []
)


rule download_plate:
    """Fetch and verify all images of a plate."""

    # The code is no param here, unlike everywhere else: a newer version of this workflow, in the middle of a study,
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
    priority: rank
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
    """Say what a run would download, by listing the gallery, and what was understood of one's own plates, without fetching an image."""
    input:
        gallery=GALLERY,
        plates=f"{RESULTS}/metadata/plates.csv",
        indexes=lambda wildcards: tables_of("index", *SOURCES),
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
        roots=all_roots,
        own=all_own,
        ready=[*READY],
        wanted=lambda wildcards: dict(
            channels=config["channels"],
            functions=bool(GALLERY_FUNCTIONS),
            nuclei=bool(GALLERY_NUCLEI),
            crop_bytes=CROP_BYTES if config["crops"]["kind"] == "centre" else None,
            plates_in_flight=(
                None if config["gallery"]["keep_images"] else config["gallery"]["plates_in_flight"]
            ),
        ),
        code=code("plan_download"),
    script:
        "../scripts/plan_download.py"
