"""`python -m defectline.components.deploy BUNDLE STORE`"""

from pathlib import Path

import typer

from defectline.components.common.installing import explained

with explained("deploy", "deploy"):
    from defectline.components.deploy.step import deploy


def main(
    bundle: Path,
    store: str,
    run: str = "manual",
    model_name: str = "defects",
    namespace: str = "",
    image: str = "",
    service_account: str = "",
    mode: str = "Standard",
    strategy: str = "candidate",
    adopt: bool = False,
    url: str = "",
    host_header: str = "",
) -> None:
    """Deploy the sealed BUNDLE: on KServe where a NAMESPACE and a serving IMAGE are given, else here."""
    kserve = {
        "namespace": namespace,
        "image": image,
        "service_account": service_account,
        "deployment_mode": mode,
        "strategy": strategy,
        "adopt": adopt,
        "url": url,
        "host_header": host_header,
    }
    deploy(bundle, store, kserve, run, model_name)


if __name__ == "__main__":
    typer.run(main)
