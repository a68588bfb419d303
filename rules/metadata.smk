"""From the public tables to the plates that take part and the sites on each.

In: the tables that the config names, load_data of each plate from the gallery.
Out: <results>/metadata/*.csv and compounds.parquet, <results>/index/<source>/<plate>.parquet.
"""

TABLE = f"{RESULTS}/metadata/tables/{{table}}.parquet"


localrules:
    select_plates,


rule download_metadata:
    """Fetch one public table."""
    input:
        gallery=GALLERY,
        code=code("download_metadata"),
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
    script:
        "../scripts/download_metadata.py"


rule label_compounds:
    """Give each compound its mechanism of action, where it has one."""
    input:
        compound=TABLE.format(table="compound"),
        platemap=TABLE.format(table="platemap"),
        target_compounds=TABLE.format(table="target_compounds"),
        drugs=TABLE.format(table="drugs"),
        code=code("label_compounds"),
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
    script:
        "../scripts/label_compounds.py"


checkpoint select_plates:
    """Choose the plates that take part, and which of them are kept for validation."""
    input:
        plate=TABLE.format(table="plate"),
        sample_sheet=config["sample_sheet"] or [],
        code=code("select_plates"),
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
    script:
        "../scripts/select_plates.py"


rule index_plate:
    """List the sites of a plate with their compounds and the keys of their images."""
    input:
        gallery=GALLERY,
        # A plate's sites do not change when other plates are chosen.
        plates=ancient(f"{RESULTS}/metadata/plates.csv"),
        well=TABLE.format(table="well"),
        layout=lambda wildcards: own_place(**wildcards).get("layout", []),
        compounds=rules.label_compounds.output.compounds,
        code=code("index_plate"),
    output:
        index=f"{RESULTS}/index/{{source}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/index_plate/{{source}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/index_plate/{{source}}/{{plate}}.tsv"
    priority: begun
    conda:
        "../envs/gallery.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        root=lambda wildcards: root_of(**wildcards),
        load_data=lambda wildcards: own_place(**wildcards).get("load_data"),
        channels=config["channels"],
        choose=config["choose"],
    script:
        "../scripts/index_plate.py"
