"""Contains no DAG: errors in applications' files and their compute profiles appear here as an Airflow import error.

The error names file and line. The other DAG files skip such an application, so that it breaks only its own DAGs.
"""

from nightshift.settings.applications import BadApplication, application_names, load_application, load_compute

problems = []
for name in application_names():
    try:
        for profile in sorted(set(load_application(name).compute.values())):
            load_compute(profile)
    except BadApplication as error:
        problems.append(str(error))
if problems:
    raise BadApplication("\n".join(problems))
