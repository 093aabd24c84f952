# The method in mylab.py beside PGD training, over two seeds; then one run of each, image by image.
rbjax sweep uat_digits:smoke --workdir=grid --over="method.name=pgd;mylab:agreeing" --over="seed=0;1"
rbjax compare grid/seed=0,method=pgd grid/seed=0,method=mylab_agreeing-*
