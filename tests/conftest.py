"""What tests share: an object store that speaks S3 over HTTP."""

import pytest


@pytest.fixture(scope="session")
def bucket():
    """URI of an empty bucket; credentials and endpoint are in the environment, as they are in production."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for key, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(key, value)
        boto3.client("s3").create_bucket(Bucket="nightshift")
        yield "s3://nightshift"
    server.stop()
