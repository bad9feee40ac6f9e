# For the Astro CLI: `astro dev start` builds this file. Stock Airflow is docker/airflow/Dockerfile.
# A -base image runs no steps of its own on build; Airflow and its providers stay those of the runtime.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.11-base

USER root
COPY requirements.lock requirements.hashes ./
RUN grep -vE '^(#|apache-airflow)' requirements.lock > requirements-jobs.txt \
 && pip install --no-cache-dir uv==0.13.9 \
 && uv pip install --system --no-cache --torch-backend=cpu --constraints requirements.hashes --requirements requirements-jobs.txt \
 && uv pip install --system --no-cache --no-deps --constraints requirements.hashes \
      $(grep -E '^apache-airflow-providers-(common-sql|postgres)==' requirements.lock)
# A new volume takes the owner of the folder that it is mounted at.
RUN install -d -o astro -g 0 -m 0775 /var/lib/nightshift
USER astro

COPY --chown=astro:0 . .
ENV PYTHONPATH=/usr/local/airflow/include:/usr/local/airflow
