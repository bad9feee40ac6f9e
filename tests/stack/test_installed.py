"""What an upgrade changes is noticed, and MLflow's database comes along; one that cannot stays as it was."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from nightshift.errors import BadEnvironment
from nightshift.stack.installed import migrate_mlflow, packages_and_code
from nightshift.stack.place import this_place


@pytest.fixture
def place(tmp_path):
    return replace(this_place(), home=tmp_path, checkout=tmp_path)


@pytest.fixture
def old_database(place):
    """A database with the schema of an earlier MLflow, made by its own migrations, with one experiment."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    database = place.home / "mlflow.db"
    engine = create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(str(engine.url))
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, scripts.get_revision("head").down_revision)
    engine.dispose()
    with closing(sqlite3.connect(database)) as file, file:
        file.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time,"
            " last_update_time) VALUES (7, 'bank', '/tmp/a', 'active', 1, 1)"
        )
    return database


def revision(database):
    return database.execute("SELECT version_num FROM alembic_version").fetchone()


def test_a_changed_file_of_the_product_is_noticed_and_others_are_not(place):
    plugins = place.checkout / "plugins"
    plugins.mkdir()
    (plugins / "pages.py").write_text("SHOWN = 1\n")
    before = packages_and_code(place)
    (plugins / "notes.txt").write_text("nobody loads this")
    assert packages_and_code(place) == before
    (plugins / "pages.py").write_text("SHOWN = 2\n")
    assert packages_and_code(place) != before


@pytest.mark.slow
def test_the_database_of_an_earlier_mlflow_is_migrated_once_and_a_copy_kept(place, old_database):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    address = f"sqlite:///{old_database}"
    assert migrate_mlflow(place)
    assert SqlAlchemyStore(address, str(place.home)).get_experiment("7").name == "bank"
    assert not migrate_mlflow(place)
    before = sqlite3.connect(place.home / "mlflow.db.before-upgrade")
    with closing(before) as copy, closing(sqlite3.connect(old_database)) as database:
        copied, migrated = (revision(file) for file in (copy, database))
    assert copied != migrated


@pytest.mark.slow
def test_a_database_that_cannot_be_migrated_is_left_as_it_was(place, old_database):
    with closing(sqlite3.connect(old_database)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = 'of-a-newer-mlflow'")
    with pytest.raises(BadEnvironment, match=r"could not be migrated, and is as it was:\n(.|\n)*of-a-newer-mlflow"):
        migrate_mlflow(place)
    assert not (place.home / "mlflow.version").exists()


def test_where_nothing_was_tracked_yet_there_is_nothing_to_migrate(place):
    assert not migrate_mlflow(place)
    assert not (place.home / "mlflow.db").exists()
