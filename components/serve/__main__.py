"""`python -m defectline.components.serve --model_dir DIR --model_name NAME --http_port PORT`"""

import argparse
import sys
from pathlib import Path

from kserve import ModelServer
from kserve.model_server import parser as kserve_parser
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from defectline.components.common.errors import DefectlineError
from defectline.components.common.ports import check_port
from defectline.components.serve.predictor import DefectModel


class OneModel(ModelRepositoryExtension):
    """Keeps the model that the server was started with; KServe's own lets any caller unload it."""

    async def unload(self, model_name: str) -> None:
        raise NotImplementedError(f"{model_name} is served until this process ends.")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="serve", description="Serve a published model on KServe's protocols.", parents=[kserve_parser]
    )
    parser.add_argument(
        "--model_dir", type=Path, default=Path("/mnt/models"), help="folder with bundle.json and its network"
    )
    parser.set_defaults(model_name="defects", enable_grpc=False)
    arguments = parser.parse_args()
    model = DefectModel(arguments.model_name, arguments.model_dir)
    try:
        check_port(arguments.http_port)
        model.load()
    except DefectlineError as error:
        print(f"serve: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    # One process: KServe restarts worker processes endlessly while they still import. Replicas scale.
    server = ModelServer(http_port=arguments.http_port, enable_grpc=arguments.enable_grpc, workers=1)
    server.model_repository_extension = OneModel(server.registered_models)
    server.start([model])


if __name__ == "__main__":
    main()
