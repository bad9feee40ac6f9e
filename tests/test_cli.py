"""The `nightshift` command as a person meets it: its help, and what it answers to wrong input."""

import pytest

from nightshift.cli import main
from nightshift.settings.job_names import JOBS


def helped(capsys, *command):
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_help_lists_what_people_call_and_names_the_jobs_of_the_dags_below(capsys):
    commands, _, below = helped(capsys).partition("Tasks of the DAGs run")
    listed = [line.split()[0] for line in commands.partition("COMMAND\n")[2].splitlines() if line.startswith("    ")]
    assert listed[:4] == ["up", "run", "down", "init"]
    assert not set(listed) & ({*JOBS} - {"train"})
    assert all(job in below for job in JOBS if job != "train")


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_a_command_with_a_spec_and_a_result(capsys, job):
    said = helped(capsys, job)
    assert "--spec" in said
    assert "--result" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train"], "train needs --spec and --result, or --plan APPLICATION"),
        (["train", "--plan"], "--plan needs the name of an application, or --spec"),
        (["compute", "render", "local"], "'local' has no manifests: its backend is local, not kubernetes"),
        (
            ["apps", "check", "/nowhere/file.yaml"],
            "/nowhere/file.yaml: there is no such file; /nowhere has no YAML file",
        ),
    ],
)
def test_wrong_input_is_answered_with_what_to_do(capsys, command, said):
    assert main(command) == 65
    assert said in capsys.readouterr().err
