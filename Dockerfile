# docker build -t holdfast .                            CUDA build of torch (for NVIDIA GPUs)
# docker build -t holdfast --build-arg DEVICE=cpu .     CPU build, much smaller
#
# Both start from the same plain Python image: the wheels bring CUDA along, and the NVIDIA container
# toolkit of the host brings the driver.
FROM python:3.11-slim

ARG DEVICE=cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /opt/holdfast

# The dependencies in a layer of their own: a change of our code does not fetch torch again.
COPY constraints.txt ./
RUN case "$DEVICE" in \
        cuda) index= ;; \
        cpu) index="--extra-index-url https://download.pytorch.org/whl/cpu" ;; \
        *) echo "DEVICE=$DEVICE: choose cuda or cpu" >&2; exit 1 ;; \
    esac; \
    pip install --constraint constraints.txt $index torch

COPY pyproject.toml README.md LICENSE ./
COPY checkpoint checkpoint
COPY holdfast holdfast
COPY queue_app queue_app
COPY gpu_tasks gpu_tasks
RUN pip install --constraint constraints.txt '.[monitor]'

RUN useradd --create-home --uid 1000 holdfast \
    && install -d -o holdfast -g holdfast /jobs /models /data
USER holdfast
WORKDIR /jobs

STOPSIGNAL SIGTERM
ENTRYPOINT ["holdfast"]
CMD ["--help"]
