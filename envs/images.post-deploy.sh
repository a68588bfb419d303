# Conda cannot leave out a package's dependencies; see requirements-deepprofiler.txt.
pip install --no-deps deepprofiler==0.5.1
