# What the queue runs, and again after 75.
for i in 0 1; do
    rbjax train uat_digits:smoke --config.num_epochs=40 --config.model.name=mlp --workdir=run \
        --config.distributed=$MASTER,2,$i & pids="$pids $!"
done
trap 'kill -TERM $pids' TERM # which interrupts the first wait, so each process has two
for pid in $pids $pids; do wait $pid; code=$?; done
exit $code
