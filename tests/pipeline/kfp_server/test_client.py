"""Servers, namespaces, tokens and addresses, against a stand-in of the Kubeflow Pipelines API."""

import json
import logging
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import kfp_api
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kfp_api import KfpApi, running
from small_pipeline import TOKEN, assert_helps

from defectline.components.common.errors import ServingError, SettingsError
from defectline.pipeline.kfp_server import transport
from defectline.pipeline.kfp_server.schedules import list_schedules

pytestmark = pytest.mark.filterwarnings("ignore:This client only works with:FutureWarning")


def self_signed(path: Path) -> ssl.SSLContext:
    """A server's context with a new certificate for 127.0.0.1, which also goes to `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    private = path.with_suffix(".key")
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, private)
    return context


def test_an_archived_experiment_is_refused(run, server):
    run(experiment="old")
    [experiment] = server.experiments.values()
    experiment.storage_state = "ARCHIVED"

    with pytest.raises(SettingsError) as caught:
        run(experiment="old")

    assert_helps(caught.value, "old is archived", "--experiment")
    assert len(server.runs) == 1


def test_a_server_with_namespaces_needs_one(run, server):
    server.multi_user = True

    with pytest.raises(SettingsError) as caught:
        run()

    assert_helps(caught.value, "no namespace", "--namespace")


def test_the_namespace_goes_into_every_list_and_creation(run, apply, server):
    server.multi_user = True

    run(namespace="plant-7")
    apply(namespace="plant-7")

    assert not apply(namespace="plant-7").created
    [pipeline], [experiment] = server.pipelines.values(), server.experiments.values()
    assert pipeline.namespace == experiment.namespace == "plant-7"
    assert len(list_schedules(host=server.host, namespace="plant-7")) == 1
    assert list_schedules(host=server.host, namespace="plant-8") == []


def test_the_token_goes_with_every_request_and_nowhere_else(run, apply, server, capfd, caplog):
    server.token = TOKEN
    caplog.set_level(logging.DEBUG)

    run(token=f" {TOKEN}\n", wait=True)
    apply(token=TOKEN)

    assert {request.token for request in server.requests} == {f"Bearer {TOKEN}"}
    assert TOKEN not in "".join(capfd.readouterr()) + caplog.text


@pytest.mark.parametrize("token", [f"Bearer {TOKEN}", f"{TOKEN}\n{TOKEN}", f"{TOKEN}ü"])
def test_a_token_that_cannot_be_sent_is_refused_without_showing_it(run, server, token):
    with pytest.raises(SettingsError) as caught:
        run(token=token)

    assert_helps(caught.value, "KFP_TOKEN", "one word")
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, SettingsError, ("400", "Correct what the server names")),
        (401, SettingsError, ("401", "KFP_TOKEN")),
        (403, SettingsError, ("403", "plant-7", "edit rights")),
        (404, SettingsError, ("404", "--experiment")),
        (409, ServingError, ("409", "Run the command again")),
        (418, ServingError, ("418", "ml-pipeline")),
        (500, ServingError, ("500", "ml-pipeline")),
        (503, ServingError, ("503", "Try again later")),
    ],
)
def test_each_refusal_says_what_to_do(run, server, status, kind, words):
    body = json.dumps({"code": 2, "message": f"Bearer {TOKEN} will not do:\n\n  why", "details": []})
    server.fail("POST", "/runs", status, body)

    with pytest.raises(kind) as caught:
        run(token=TOKEN, namespace="plant-7")

    assert_helps(caught.value, server.host, "create the run", "Bearer <token> will not do: why", *words)
    assert len(server.bodies("/runs")) == 1


def test_a_version_that_is_kept_but_not_listed_is_told_as_that(run, apply, server):
    apply()
    [pipeline], [version] = server.pipelines, server.versions.values()
    server.unlabelled = {version.name}

    with pytest.raises(SettingsError) as caught:
        apply()

    label = f"pipelines.kubeflow.org/pipeline-id={pipeline}"
    named = f"defectline-{version.name} -n kubeflow {label}`"
    assert_helps(caught.value, "does not list the version", "already exists", named)
    assert "another process" not in str(caught.value)


def test_a_version_that_another_process_uploads_meanwhile_is_used(apply, server, monkeypatch):
    apply()
    [version] = server.versions.values()
    server.unlabelled = {version.name}
    upload = KfpApi.upload_version

    def appears(server, request, content):
        server.unlabelled.clear()
        return upload(server, request, content)

    monkeypatch.setattr(
        kfp_api,
        "ROUTES",
        [(*route, appears if handle is upload else handle) for *route, handle in kfp_api.ROUTES],
    )

    assert apply(cron="0 3 * * *").created
    assert list(server.versions.values()) == [version]


def test_reading_is_tried_again(run, server):
    server.fail("GET", "/healthz", 500, times=2)
    server.fail("GET", "/experiments", 503, times=1)

    assert run().state == "PENDING"


@pytest.mark.parametrize("status", [200, 404])
def test_a_web_page_is_no_kfp_server(run, server, status):
    server.fail("GET", "/healthz", status, "<html>Sign in</html>", content_type="text/html; charset=utf-8")

    with pytest.raises(SettingsError) as caught:
        run()

    assert_helps(caught.value, server.host, "does not answer as a Kubeflow Pipelines 2 server", "KFP_TOKEN")


def test_a_login_page_in_the_middle_is_not_taken_for_an_answer(run, server):
    server.fail("POST", "/runs", 200, "<html>Sign in</html>", content_type="text/html")

    with pytest.raises(SettingsError, match="login page"):
        run()


def test_a_long_message_is_cut(run, server):
    server.fail("POST", "/runs", 500, "x" * 5_000, content_type="text/plain")

    with pytest.raises(ServingError) as caught:
        run()

    assert len(caught.value.got) < 400


def test_an_unanswered_post_may_have_happened_and_is_not_repeated(run, server, monkeypatch):
    monkeypatch.setattr(transport, "CHANGE_TIMEOUT_S", (5, 0.3))
    server.fail("POST", "/runs", 200, silent=True)

    with pytest.raises(ServingError) as caught:
        run()

    assert_helps(caught.value, "no answer within 0.3 s", "whether it happened all the same")
    assert len(server.bodies("/runs")) == 1


def test_nobody_listens(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(ServingError) as caught:
        run(host=f"http://127.0.0.1:{port}")

    assert_helps(caught.value, f"127.0.0.1:{port}", "no server listens", "port-forward")


def test_a_name_that_nobody_knows(run):
    with pytest.raises(SettingsError) as caught:
        run(host="http://kfp.invalid")

    assert_helps(caught.value, "no address for the name kfp.invalid", "--host")


def test_a_certificate_of_an_own_authority_is_trusted_through_ssl_cert_file(run, tmp_path, monkeypatch):
    context = self_signed(tmp_path / "ca.pem")
    with running(KfpApi(), tls=context) as server:
        with pytest.raises(SettingsError) as caught:
            run(host=server.host)
        assert_helps(caught.value, "self-signed certificate", "SSL_CERT_FILE")

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert run(host=server.host).state == "PENDING"


def test_https_where_there_is_none(run, server):
    with pytest.raises(SettingsError) as caught:
        run(host=server.host.replace("http://", "https://"))

    assert_helps(caught.value, "no secure connection", "http://")


@pytest.mark.parametrize(
    "host", ["", "kubeflow.example.com", "ftp://a", "http://", "http://[1", "http://a:x", "https://u:pw@a"]
)
def test_an_address_that_is_none(run, host):
    with pytest.raises(SettingsError) as caught:
        run(host=host)

    assert_helps(caught.value, "--host", "https://kubeflow.example.com/pipeline")
    assert "pw" not in str(caught.value)


def test_an_address_may_be_copied_from_the_browser(run, server):
    assert run(host=f" {server.host}/#/runs ").url.startswith(f"{server.host}/#/runs/details/")
