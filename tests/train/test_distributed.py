import pytest

from facerep_jax.train import distributed


def test_one_process_needs_nobody():
    distributed.initialize()
    assert distributed.alone()
    assert distributed.first()
    assert distributed.anyone(True)
    assert not distributed.anyone(False)
    assert distributed.same_as_first(True)
    assert distributed.total(a=3, b=4) == {"a": 3, "b": 4}
    assert not distributed.preempted(1)


def test_what_the_first_raises_is_raised():
    def fails():
        raise FileNotFoundError("no such file")

    with pytest.raises(FileNotFoundError, match="no such file"):
        distributed.by_first("a step", fails)


@pytest.mark.parametrize("given", [dict(coordinator="127.0.0.1:1"), dict(processes=2), dict(process=0)])
def test_half_a_description_is_refused(given):
    with pytest.raises(ValueError, match="give all three or none"):
        distributed.initialize(**given)


def test_processes_are_counted_from_zero():
    with pytest.raises(ValueError, match="less than --processes=2, not 2"):
        distributed.initialize("127.0.0.1:1", 2, 2)


def test_fewer_processes_than_expected_are_refused():
    with pytest.raises(ValueError, match="expects 4 processes and 1 appeared"):
        distributed.initialize(expected=4)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, ""),
        (
            {
                "SLURM_JOB_ID": "17",
                "SLURM_STEP_NODELIST": "node[1-2]",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": "0",
                "SLURM_LOCALID": "0",
                "SLURM_STEP_NUM_NODES": "2",
            },
            "slurm",
        ),
        ({"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}, "ompi"),
    ],
)
def test_clusters_are_known_by_their_environment(monkeypatch, environment, name):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert distributed.cluster() == name


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1:80", True), ("[::1]:80", True), ("localhost:80", True), ("10.0.0.3:80", False), ("host:80", False)],
)
def test_addresses_of_this_machine_alone(address, own):
    assert distributed.loopback(address) == own
