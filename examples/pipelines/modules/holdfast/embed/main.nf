process HOLDFAST_EMBED {
    tag "$meta.id"
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "holdfast"

    input:
    tuple val(meta), path(sequences)
    val model
    val jobs

    output:
    tuple val(meta), path("*.h5")            , emit: embeddings
    tuple val(meta), path("*.card.md")       , emit: card
    tuple val(meta), path("*.quarantine.tsv"), emit: quarantine, optional: true
    path "versions.yml"                      , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    holdfast embed ${sequences} \\
        --model ${model} \\
        --output ${prefix}.h5 \\
        --job-dir ${jobs}/${prefix}.holdfast \\
        --overwrite-changed \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        holdfast: \$(holdfast --version)
    END_VERSIONS
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.h5 ${prefix}.h5.card.md

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        holdfast: \$(holdfast --version)
    END_VERSIONS
    """
}
