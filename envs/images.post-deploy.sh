# Conda cannot leave out a package's dependencies; see requirements-nodeps.txt.
pip install --no-deps deepprofiler==0.5.1 cp-measure==0.3.0 centrosome==1.3.4 mahotas==1.4.19 deprecation==2.1.0
