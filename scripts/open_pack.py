"""Check the pack, and lay its files where those of a training would lie."""

import shutil
from pathlib import Path

from coda.files import replacing
from coda.logs import reported
from coda.predict.pack_files import FILES, verify

with reported(snakemake.log[0]):
    folder = Path(snakemake.input.pack).parent
    description = verify(folder)
    print(
        f"A pack of {description['source']}, seed {description['seed']}, by {description.get('code')}."
    )
    for name, path in snakemake.output.items():
        with replacing(path) as temporary:
            shutil.copyfile(folder / FILES[name], temporary)
