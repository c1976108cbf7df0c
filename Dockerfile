# One target a component: ingest, preprocess, train, evaluate, deploy, serve; train-gpu and serve-gpu for GPUs,
# train-jax for training on several nodes; local and local-gpu have all of them, and the command line.
#
#   docker build --target serve --tag defectline-serve .
#
# Optional secrets, of which nothing stays in an image:
#   --secret id=ca,src=FILE    certificates to trust while installing, where a proxy has its own
#   --secret id=pip,src=FILE   a pip.conf, where packages come from a mirror
#
# Pin the base by digest where a build must repeat: --build-arg BASE=python:3.11-slim-bookworm@sha256:…
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS wheel
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/secrets/pip
ARG PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip \
    pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY . .
RUN pip wheel --no-build-isolation --no-deps --no-index --wheel-dir /dist . \
    && cp -r tools/sbom.py requirements /dist


# What every component needs, in a virtual environment without pip: the pip of the base fills it.
FROM ${BASE} AS common
RUN useradd --uid 1000 --gid 0 --no-log-init --no-create-home defectline \
    # OpenVINO's converter and NNCF send usage data unless this file says no.
    && mkdir -p /home/defectline/intel && printf 0 > /home/defectline/intel/openvino_telemetry \
    # OpenShift runs any user id, always in group 0.
    && chown -R 1000:0 /home/defectline && chmod -R g=u /home/defectline \
    && python3 -m venv --without-pip /opt/defectline
ENV PATH=/opt/defectline/bin:${PATH} HOME=/home/defectline MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
WORKDIR /home/defectline
ARG PIP_PYTHON=/opt/defectline
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_CONFIG_FILE=/run/secrets/pip
ARG PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/common.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt


# A step of the pipeline: Kubeflow calls `python3 -m kfp.dsl.executor_main`, which needs kfp alone.
FROM common AS step
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/kfp.txt,target=/run/requirements.txt \
    pip install --no-deps --require-hashes -r /run/requirements.txt


# The four steps that read images share the layer of what preprocess needs.
FROM step AS data
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/preprocess.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt


FROM data AS ingest
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/ingest.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-ingest /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline ingest" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.ingest"]


FROM data AS preprocess
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-preprocess /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline preprocess" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.preprocess"]


FROM data AS train-packages
# What trains, without our own code, which changes more often.
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/train.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt \
    # TensorFlow's C++ headers: 430 MB that only custom operators need.
    && rm -r /opt/defectline/lib/python3.*/site-packages/tensorflow/include


FROM train-packages AS train
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-train /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ENV TF_CPP_MIN_LOG_LEVEL=2
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline train" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.train"]


FROM train-packages AS local
# Every command, for pods that do more than a step.
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/local.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-local /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ENV TF_CPP_MIN_LOG_LEVEL=2
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline local" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["defectline"]


FROM data AS train-gpu-packages
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/train-gpu.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt \
    # TensorFlow's C++ headers: 430 MB that only custom operators need.
    && rm -r /opt/defectline/lib/python3.*/site-packages/tensorflow/include


FROM train-gpu-packages AS train-gpu
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-train-gpu /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ENV TF_CPP_MIN_LOG_LEVEL=2 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline train-gpu" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.train"]


FROM train-gpu-packages AS local-gpu
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/local-gpu.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-local-gpu /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ENV TF_CPP_MIN_LOG_LEVEL=2 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline local-gpu" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["defectline"]


FROM data AS train-jax
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/train-jax.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt \
    # TensorFlow's C++ headers: 430 MB that only custom operators need.
    && rm -r /opt/defectline/lib/python3.*/site-packages/tensorflow/include
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-train-jax /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ENV KERAS_BACKEND=jax TF_CPP_MIN_LOG_LEVEL=2 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline train-jax" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.train"]


FROM data AS evaluate
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/evaluate.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-evaluate /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline evaluate" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.evaluate"]


FROM step AS deploy
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/deploy.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-deploy /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline deploy" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.deploy"]


FROM common AS serve
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/serve.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt \
    # 40 MB of tests.
    && rm -r /opt/defectline/lib/python3.*/site-packages/pandas/tests
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-serve /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
EXPOSE 8080
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline serve" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.serve"]


FROM common AS serve-gpu
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements/serve-gpu.txt,target=/run/requirements.txt \
    pip install --require-hashes -r /run/requirements.txt \
    # 40 MB of tests.
    && rm -r /opt/defectline/lib/python3.*/site-packages/pandas/tests
RUN --mount=type=bind,from=wheel,source=/dist,target=/mnt \
    pip install --no-cache-dir --no-deps --no-index /mnt/*.whl \
    && python3 /mnt/sbom.py defectline-serve-gpu /usr/share/doc/defectline/sbom.cdx.json /mnt/requirements/*.txt
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8080
ARG VERSION REVISION
LABEL org.opencontainers.image.title="defectline serve-gpu" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 1000
ENTRYPOINT ["python3", "-m", "defectline.components.serve", "--engine", "onnxruntime"]
