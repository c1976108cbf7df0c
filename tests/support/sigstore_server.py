"""Sigstore on loopback: Fulcio, which certifies whom a token names, and Rekor, with one entry a tree.

The real client talks to it, and checks all that it says by the trust config of `config`.
"""

import base64
import hashlib
import json
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from defectline.components.common.trust.identities import ISSUER

SECRET = "the secret of the issuer of tokens, 32 bytes"
LINE, ADA = "line@example.com", "ada@example.com"
AT = "https://accounts.example.com"
SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SHA256 = ec.ECDSA(hashes.SHA256())


def token(who: str = LINE, issuer: str = AT, lives_s: int = 600, secret: str = SECRET) -> str:
    now = int(time.time())
    claims = {"iss": issuer, "sub": who, "aud": "sigstore", "iat": now - 3600, "exp": now + lives_s}
    return jwt.encode(claims, secret, "HS256")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


class SigstoreServer:
    """`fault` is "" or what goes wrong next: "500", "401", "sct", "late" or "log 500"; with "hang" and "log
    hang" no answer comes before `close`."""

    def __init__(self) -> None:
        self.fault = ""
        self.certificates = 0
        self._ended = threading.Event()
        self._ca, self._ct, self._rekor, self._other = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(4)
        )
        self._root = self._make_root()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def config(self, file: Path) -> Path:
        valid = {"start": "2020-01-01T00:00:00Z"}
        der = b64(self._root.public_bytes(serialization.Encoding.DER))

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": b64(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid}
            log_id = {"keyId": b64(hashlib.sha256(spki(key)).digest())}
            return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": log_id}

        service = {"url": self.url, "majorApiVersion": 1, "validFor": valid, "operator": "tests"}
        authority = {"subject": {"organization": "tests", "commonName": "tests"}, "uri": self.url}
        authority |= {"certChain": {"certificates": [{"rawBytes": der}]}, "validFor": valid}
        kind = "application/vnd.dev.sigstore."
        content = {
            "mediaType": f"{kind}clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": f"{kind}trustedroot+json;version=0.1",
                "tlogs": [log(self._rekor)],
                "ctlogs": [log(self._ct)],
                "certificateAuthorities": [authority],
                "timestampAuthorities": [],
            },
            "signingConfig": {
                "mediaType": f"{kind}signingconfig.v0.2+json",
                "caUrls": [service],
                "oidcUrls": [],
                "rekorTlogUrls": [service],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": [],
                "tsaConfig": {"selector": "ANY"},
            },
        }
        file.write_text(json.dumps(content))
        return file

    def _make_root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        now = datetime.now(UTC)
        usage = [False] * 9
        usage[5] = usage[6] = True
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._ca.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=9))
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(*usage), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._ca.public_key()), False)
            .sign(self._ca, hashes.SHA256())
        )

    def _certify(self, body: dict[str, Any], bearer: str) -> dict[str, Any]:
        claims = jwt.decode(bearer, SECRET, ["HS256"], audience="sigstore")
        asked = x509.load_pem_x509_csr(base64.b64decode(body["certificateSigningRequest"]))
        assert asked.is_signature_valid
        self.certificates += 1
        now = datetime.now(UTC)
        usage = [True] + [False] * 8
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._root.subject)
            .public_key(asked.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=5))
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(x509.KeyUsage(*usage), True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca.public_key()), False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(claims["sub"])]), True)
            .add_extension(x509.UnrecognizedExtension(ISSUER, claims["iss"].encode()), False)
        )
        plain = builder.sign(self._ca, hashes.SHA256()).tbs_certificate_bytes
        at = struct.pack("!Q", int(now.timestamp() * 1000))
        entry = hashlib.sha256(spki(self._ca)).digest() + struct.pack("!I", len(plain))[1:] + plain
        signed = b"\0\0" + at + b"\0\1" + entry + b"\0\0"
        signature = (self._other if self.fault == "sct" else self._ct).sign(signed, SHA256)
        sct = b"\0" + hashlib.sha256(spki(self._ct)).digest() + at + b"\0\0\4\3"
        sct += struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!H", len(sct)) + sct
        listed = struct.pack("!H", len(listed)) + listed
        octets = (
            b"\4" + (bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])) + listed
        )
        final = builder.add_extension(x509.UnrecognizedExtension(SCTS, octets), False)
        chain = [final.sign(self._ca, hashes.SHA256()), self._root]
        pems = [one.public_bytes(serialization.Encoding.PEM).decode() for one in chain]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": pems}}}

    def _log(self, body: dict[str, Any]) -> dict[str, Any]:
        proposed = body["spec"]["proposedContent"]
        envelope = json.loads(proposed["envelope"])

        def digest(data: bytes) -> dict[str, str]:
            return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}

        spec = {
            "envelopeHash": digest(proposed["envelope"].encode()),
            "payloadHash": digest(base64.b64decode(envelope["payload"])),
            "signatures": [
                {"signature": one["sig"], "verifier": proposed["verifiers"][0]}
                for one in envelope["signatures"]
            ],
        }
        data = rfc8785.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        log_id = hashlib.sha256(spki(self._rekor)).digest()
        late = 3600 if self.fault == "late" else 0
        said = {"body": b64(data), "integratedTime": int(time.time()) + late}
        said |= {"logID": log_id.hex(), "logIndex": 0}
        root = hashlib.sha256(b"\0" + data).digest()
        note = f"tests\n1\n{b64(root)}\n"
        mark = b64(log_id[:4] + self._rekor.sign(note.encode(), SHA256))
        proof = {"logIndex": 0, "rootHash": root.hex(), "treeSize": 1, "hashes": []}
        proof["checkpoint"] = f"{note}\n— tests {mark}\n"
        stamp = b64(self._rekor.sign(rfc8785.dumps(said), SHA256))
        verification = {"signedEntryTimestamp": stamp, "inclusionProof": proof}
        return {root.hex(): said | {"verification": verification}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                certify = self.path == "/api/v2/signingCert"
                if server.fault == "hang" or (server.fault == "log hang" and not certify):
                    server._ended.wait()
                    return
                answer: dict[str, Any] = {"code": 500, "message": "no"}
                status = 201
                if server.fault in ("500", "401") or (server.fault == "log 500" and not certify):
                    status = int(server.fault.split()[-1])
                elif certify:
                    try:
                        answer = server._certify(body, self.headers["Authorization"].removeprefix("Bearer "))
                    except jwt.InvalidTokenError:
                        status = 401
                else:
                    answer = server._log(body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler
