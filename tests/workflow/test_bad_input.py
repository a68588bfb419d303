import pytest
import yaml
from workflow_run import run_snakemake


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("adapt={epoch: 3}", "adapt.epoch; did you mean epochs"),
        ("views={global_size: large}", "views.global_size"),
        ("target_sources=[source_55]", "source_55"),
    ],
)
def test_faults_of_the_config_stop_before_anything_runs(workdir, change, words):
    folder, config = workdir
    done = run_snakemake(folder, config, "--config", change, check=False)
    assert done.returncode != 0
    assert words in done.stdout and "Traceback" not in done.stdout
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources": {"source_3": {"validation_plate": "JCPQC90299"}}}, "JCPQC90299"),
        ({"plate_type": "TARGET3"}, "TARGET3"),
    ],
)
def test_unknown_plates_are_named(workdir, change, words):
    folder, path = workdir
    config = yaml.safe_load(path.read_text())
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config))
    done = run_snakemake(folder, path, "results/metadata/plates.csv", check=False)
    assert done.returncode != 0 and words in done.stdout
    assert "Error: " in done.stdout and "Traceback" not in done.stdout.split("Error: ")[0]


def test_a_table_without_a_needed_column_is_named(workdir):
    folder, path = workdir
    config = yaml.safe_load(path.read_text())
    (folder / "drugs.txt").write_text("name\tmoa\nx\ty\n")
    config["tables"]["drugs"] = str(folder / "drugs.txt")
    path.write_text(yaml.safe_dump(config))
    done = run_snakemake(folder, path, "results/metadata/compounds.parquet", check=False)
    assert done.returncode != 0 and "tables.drugs" in done.stdout and "pert_iname" in done.stdout


def test_a_gallery_that_does_not_answer_is_named(workdir):
    folder, path = workdir
    config = yaml.safe_load(path.read_text())
    config["gallery"]["endpoint"] = "http://127.0.0.1:9"  # the discard port: nobody listens
    path.write_text(yaml.safe_dump(config))
    done = run_snakemake(folder, path, "results/index/source_3/JCPQC90101.parquet", check=False)
    assert (
        done.returncode != 0 and "127.0.0.1:9" in done.stdout and "gallery.endpoint" in done.stdout
    )


@pytest.mark.slow
def test_broken_and_missing_images_cost_their_site_and_are_named(tmp_path, gallery):
    import shutil

    import pandas as pd
    from s3_server import s3_server
    from workflow_run import write_config

    damaged = tmp_path / "gallery"
    shutil.copytree(gallery, damaged)
    images = sorted(
        (damaged / "cellpainting-gallery/cpg0016-jump/source_5/images").rglob(
            "P01_ACPJUM90101/*C01.tif"
        )
    )
    images[0].unlink()
    images[3].write_bytes(bytes(images[3].stat().st_size))
    images[5].write_bytes(images[5].read_bytes()[:1000])
    plate = "results/{}/source_5/ACPJUM90101.parquet"
    with s3_server(damaged) as endpoint:
        config = write_config(tmp_path, damaged, endpoint)
        done = run_snakemake(
            tmp_path, config, plate.format("quality"), "--config", "gallery={max_lost: 0.2}", "-k"
        )
    manifest = pd.read_parquet(tmp_path / plate.format("manifests"))
    assert (manifest["status"] != "ok").sum() >= 2
    quality = pd.read_parquet(tmp_path / plate.format("quality"))
    lost = quality[quality["status"] != "ok"]
    assert len(lost) == 3 and lost["reason"].notna().all()
    assert "3" in done.stdout

    with s3_server(damaged) as endpoint:
        strict = tmp_path / "strict"
        strict.mkdir()
        config = write_config(strict, damaged, endpoint)
        done = run_snakemake(
            strict,
            config,
            plate.format("quality"),
            "--config",
            "gallery={max_lost: 0.01}",
            check=False,
        )
    assert (
        done.returncode != 0 and "gallery.max_lost" in done.stdout and "ACPJUM90101" in done.stdout
    )
