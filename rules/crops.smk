"""From images to 8-bit crops, one job a plate; and filters that harmonise a target's, one job a pair.

Needs: index, images and manifest of a plate; the gallery's own functions and nuclei where the config asks for them.
Sources with crops of their own (sources.<source>.crops) need the table of these instead.
Gives: <results>/illumination/<source>/<plate>.npz, <results>/crops/<source>/<plate>.arrow and
<results>/quality/<source>/<plate>.parquet; of all plates <results>/warnings.csv; <results>/spectra/<source>.parquet and
<results>/harmonisation/<source>/<target>.parquet, the filters of all plates of a target (of the source itself: of its
held-out plate). Crops stay as they are: filters are applied where crops are used.
"""


def side_of_crop(wildcards):
    """Give the side of the one crop from a site's centre in pixels of the raw image; None where crops are others."""
    crops, um = config["crops"], config["sources"][wildcards.source]["um_per_pixel"]
    if crops["kind"] != "centre":
        return None
    return crops["size"] * (crops["um_per_pixel"] / um if crops["um_per_pixel"] else 1.0)


rule estimate_illumination:
    """Gather a plate's statistics: illumination function and intensity range of each channel."""
    input:
        index=rules.index_plate.output.index,
        images=rules.download_plate.output.images,
        manifest=rules.download_plate.output.manifest,
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
        min_sites=(
            config["crops"]["min_sites"]
            if config["crops"]["illumination"] == "deepprofiler"
            else 1
        ),
        crop=side_of_crop,
        code=code("estimate_illumination"),
    script:
        "../scripts/estimate_illumination.py"


rule extract_crops:
    """Correct, compress and cut every site of a plate into its crop store."""
    input:
        index=rules.index_plate.output.index,
        images=rules.download_plate.output.images,
        manifest=rules.download_plate.output.manifest,
        illumination=rules.estimate_illumination.output.illumination,
        functions=GALLERY_FUNCTIONS,
        nuclei=GALLERY_NUCLEI,
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
            for key in ("kind", "size", "illumination", "min_sites", "um_per_pixel", "flags")
        },
        um_per_pixel=lambda wildcards: config["sources"][wildcards.source]["um_per_pixel"],
        channels=config["channels"],
        code=code("extract_crops"),
    script:
        "../scripts/extract_crops.py"


rule inspect_plate:
    """Say what became of every site of a plate: kept, flagged or lost, and why."""
    input:
        index=rules.index_plate.output.index,
        illumination=rules.estimate_illumination.output.illumination,
        crops=rules.extract_crops.output.crops,
    output:
        quality=f"{RESULTS}/quality/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/inspect_plate/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/inspect_plate/{{source}}/{{plate}}.tsv"
    priority: 1
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        channels=config["channels"],
        limits=config["crops"]["flags"],
        illumination=config["crops"]["illumination"],
        min_sites=config["crops"]["min_sites"],
        code=code("inspect_plate"),
    script:
        "../scripts/inspect_plate.py"


rule collect_warnings:
    """Gather what a reader of the results should know of the inputs: oddities of tables, images that are copies."""
    input:
        compounds=[rules.label_compounds.output.compounds] if JUMP_TABLES else [],
        indexes=lambda wildcards: tables_of("index", *SOURCES),
        quality=all_quality,
    output:
        warnings=f"{RESULTS}/warnings.csv",
    log:
        f"{RESULTS}/logs/collect_warnings.log",
    benchmark:
        f"{RESULTS}/benchmarks/collect_warnings.tsv"
    # Images that are copies are told as soon as they are known.
    priority: 100
    conda:
        "../envs/images.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(10),
    params:
        pixel_sizes=pixel_sizes(config, raw=True),
        training=config["train_sources"],
        code=code("collect_warnings"),
    script:
        "../scripts/collect_warnings.py"


def all_crops(wildcards):
    """Crops of every plate that takes part."""
    return [path for source in SOURCES for path in crops_of(source)]


rule measure_spectra:
    """Measure the spectra of all plates of a source, as images to harmonise and as those to harmonise to."""
    input:
        crops=lambda wildcards: crops_of(wildcards.source),
        like=f"{RESULTS}/spectra/pack.parquet" if config["pack"] else [],
    output:
        spectra=f"{RESULTS}/spectra/{{source}}.parquet",
    log:
        f"{RESULTS}/logs/measure_spectra/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_spectra/{{source}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: share(len(SOURCES))
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        pixel_sizes=pixel_sizes(config),
        reference=config["harmonise"]["reference"],
        code=code("measure_spectra"),
    script:
        "../scripts/measure_spectra.py"


rule fit_harmonisation:
    """Find the filters that give the plates of a target the spectra of the training source's."""
    input:
        training=rules.measure_spectra.output.spectra,
        target=rules.measure_spectra.output.spectra.replace("{source}", "{target}"),
        plates=f"{RESULTS}/metadata/plates.csv",
    output:
        filters=f"{RESULTS}/harmonisation/{{source}}/{{target}}.parquet",
    log:
        f"{RESULTS}/logs/fit_harmonisation/{{source}}/{{target}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_harmonisation/{{source}}/{{target}}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        settings=config["harmonise"],
        code=code("fit_harmonisation"),
    script:
        "../scripts/fit_harmonisation.py"


def filters_of(wildcards):
    """Filters of the target's plates, for the methods whose images are harmonised."""
    return rules.fit_harmonisation.output.filters if COMPOSED[wildcards.method].harmonised else []


if READY:

    ruleorder: index_crops > index_plate
    ruleorder: import_crops > extract_crops
    ruleorder: import_crops > inspect_plate
    ruleorder: import_crops > download_plate

    rule index_crops:
        """List the sites of a plate of crops that were cut elsewhere, with their compounds."""
        input:
            plates=ancient(f"{RESULTS}/metadata/plates.csv"),
            table=lambda wildcards: READY[wildcards.source],
            platemap=lambda wildcards: own_place(**wildcards).get("platemap", []),
        output:
            index=rules.index_plate.output.index,
        log:
            f"{RESULTS}/logs/index_crops/{{source}}/{{plate}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/index_crops/{{source}}/{{plate}}.tsv"
        wildcard_constraints:
            source="|".join(map(re.escape, READY)),
        conda:
            "../envs/images.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=growing(20),
        params:
            channels=config["channels"],
            code=code("index_crops"),
        script:
            "../scripts/index_crops.py"

    rule import_crops:
        """Make the crop store of a plate of crops that were cut elsewhere, with the same checks."""
        input:
            table=lambda wildcards: READY[wildcards.source],
            index=rules.index_plate.output.index,
        output:
            crops=rules.extract_crops.output.crops,
            quality=rules.inspect_plate.output.quality,
            manifest=rules.download_plate.output.manifest,
        log:
            f"{RESULTS}/logs/import_crops/{{source}}/{{plate}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/import_crops/{{source}}/{{plate}}.tsv"
        wildcard_constraints:
            source="|".join(map(re.escape, READY)),
        conda:
            "../envs/images.yaml"
        resources:
            mem_mb=growing(4000),
            runtime=growing(60),
        params:
            settings={key: config["crops"][key] for key in ("kind", "size", "flags")},
            um_per_pixel=lambda wildcards: config["sources"][wildcards.source]["um_per_pixel"],
            channels=config["channels"],
            code=code("import_crops"),
        script:
            "../scripts/import_crops.py"
