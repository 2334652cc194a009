# What stands beside the machines: the operator's Docker engine, the registry behind ECR.
ARG MACHINE
FROM $MACHINE
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      docker-registry docker.io iptables \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
CMD []
