# By folders; on the other hospital's; what it says of each scan; by a table.
rbjax train uat_digits:smoke --config.dataset.name=folder --config.dataset.path=scans \
    --config.dataset.groups=subfolders --workdir=runs/scans
rbjax evaluate runs/scans --config=evaluate_standard:smoke \
    --config.dataset.test_on=folder:hospital_b
rbjax predict runs/scans hospital_b
rbjax train uat_digits:smoke --config.dataset.name=folder --config.dataset.path=flat \
    --config.dataset.metadata=scans.csv --workdir=runs/table
