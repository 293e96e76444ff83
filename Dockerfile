# docker build -t holdfast .                            CUDA build of torch (for NVIDIA GPUs)
# docker build -t holdfast --build-arg DEVICE=cpu .     CPU build, much smaller
#
# Both start from the same plain Python image: the wheels bring CUDA along, and the NVIDIA container
# toolkit of the host brings the driver.
FROM python:3.11-slim

ARG DEVICE=cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /opt/holdfast

# The dependencies in a layer of their own: a change of our code does not fetch torch again. Each file is one
# whose SHA-256 is known; the CPU build of torch alone is taken from its publisher's index by its version.
COPY requirements-hashed.txt requirements-hashed-cuda.txt ./
RUN set -eu; \
    case "$DEVICE" in \
        cuda) hashed="-r requirements-hashed-cuda.txt" ;; \
        cpu) hashed=; torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements-hashed-cuda.txt); \
             pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch" ;; \
        *) echo "DEVICE=$DEVICE: choose cuda or cpu" >&2; exit 1 ;; \
    esac; \
    pip install --require-hashes -r requirements-hashed.txt $hashed

COPY pyproject.toml README.md LICENSE ./
COPY checkpoint checkpoint
COPY holdfast holdfast
COPY queue_app queue_app
COPY gpu_tasks gpu_tasks
RUN pip install --no-deps --no-index --no-build-isolation .

RUN useradd --create-home --uid 1000 holdfast \
    && install -d -o holdfast -g holdfast /jobs /models /data
USER holdfast
WORKDIR /jobs

STOPSIGNAL SIGTERM
ENTRYPOINT ["holdfast"]
CMD ["--help"]
