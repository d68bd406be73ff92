"""The results of an evaluation, as `results.json` holds them: what is written by evaluation and read by a report."""

JUDGED = "encoder"  # the encoder that an evaluation is about, among the names in examples.parquet
RANDOM, SCRATCH = "random", "scratch"
NETWORKS = (RANDOM, SCRATCH)  # baselines that are the encoder: untrained, and trained on the same labels alone
NO_MATTER = ("drop_path", "patch_dropout", "unroll")  # settings of an encoder that its features do not depend on
