"""`planetmesh metrics`: the mesh in numbers, and how Prometheus gets them."""

from __future__ import annotations

import sys

import click

from planetmesh.cli.face import Face

_EXAMPLES = """
\b
Examples:
  planetmesh metrics
  planetmesh metrics | grep node_up
  planetmesh metrics --scrape-config >> prometheus.yml

\b
A credential for Prometheus, on its machine and as its user:
  planetmesh code --role viewer                           on the coordinator
  planetmesh --home DIR login --role viewer               there, with that code
  planetmesh --home DIR metrics --scrape-config           what to put into its config

A viewer's certificate lives 30 days and is renewed whenever a command of that home asks the mesh
something: let `planetmesh --home DIR metrics -q` run once a day.
"""

_CONFIG = """\
scrape_configs:
  - job_name: planetmesh
    scheme: https
    metrics_path: /metrics
    static_configs:
      - targets: ["{target}"]
    tls_config:
      ca_file: {folder}/ca.pem
      cert_file: {folder}/cert.pem
      key_file: {folder}/key.pem
      server_name: {name}
"""


@click.command(epilog=_EXAMPLES)
@click.option("--scrape-config", is_flag=True, help="Print what Prometheus needs in its configuration.")
@click.pass_obj
def metrics(face: Face, *, scrape_config: bool) -> None:
    """Show the mesh in numbers, in Prometheus' form."""
    if scrape_config:
        _show_config(face)
        return
    text = face.with_mesh(lambda mesh: mesh.metrics())
    if face.json:
        from planetmesh.cli.output import write_json

        write_json(_samples(text))
    elif not face.quiet:
        from planetmesh.cli.output import whole_cell

        sys.stdout.writelines(f"{whole_cell(line)}\n" for line in text.rstrip("\n").split("\n"))


def _samples(text: str) -> list[dict[str, object]]:
    from prometheus_client.parser import text_string_to_metric_families

    return [
        {"name": sample.name, "labels": sample.labels, "value": sample.value}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def _show_config(face: Face) -> None:
    """With this home's credential, whatever its role; an operator's is more than Prometheus needs."""
    from planetmesh.model.identity import Role
    from planetmesh.trust.identity import Identity, host_name

    identity = Identity.load(face.home.operator)
    membership = identity.membership
    target = membership.endpoints[0] if membership.endpoints else "ADDRESS:7433"
    config = _CONFIG.format(
        target=target, folder=identity.folder.absolute(), name=host_name(membership.mesh_id)
    )
    if face.json:
        from planetmesh.cli.output import write_json

        write_json({"config": config, "role": membership.role.value})
    else:
        sys.stdout.write(config)
    if membership.role is not Role.VIEWER:
        face.printer.warn(
            "This is an operator's credential: who has it runs commands on all machines. For Prometheus pair "
            "a viewer: `planetmesh code --role viewer` here, "
            "`planetmesh --home DIR login --role viewer` there."
        )
