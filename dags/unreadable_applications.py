"""Holds no DAG: an application file that cannot be read shows here as an Airflow import error that names file and line.

The other files leave such an application out, so that it breaks only its own DAGs.
"""

from nightshift.applications import BadApplication, application_names, load_application

problems = []
for name in application_names():
    try:
        load_application(name)
    except BadApplication as error:
        problems.append(str(error))
if problems:
    raise BadApplication("\n".join(problems))
