// nextflow run main.nf --model /models/esm2_t33_650M_UR50D -resume
//
// Every try of a task has a new work directory, so that the job directories lie in one that stays: --jobs.

include { HOLDFAST_EMBED } from './modules/holdfast/embed/main'

params.sequences = 'proteins/*.fasta'
params.model     = null
params.jobs      = "${launchDir}/holdfast-jobs"
params.results   = 'embeddings'

workflow {
    sequences = Channel.fromPath(params.sequences).map { file -> [[id: file.baseName], file] }
    HOLDFAST_EMBED(sequences, params.model, params.jobs)
}
