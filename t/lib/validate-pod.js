// Reads a pod as JSON and says "valid", or what is wrong with it.  Checks it
// against the schema of Kubernetes' API, and refuses fields that are not in
// there, as the API server does with strict field validation.

const path = require('path');
const { readFileSync } = require('fs');

const ajv = require(path.join(
    path.dirname(require.resolve('@kubernetes-models/validate')), 'ajv.js'));
const register = ajv.register;

ajv.register = (id, schema) => {
    if (schema.properties) {
        schema.additionalProperties = false;
    }

    register(id, schema);
};

const { Pod } = require('kubernetes-models/v1');

try {
    new Pod(JSON.parse(readFileSync(0, 'utf8'))).validate();
    console.log('valid');
} catch (error) {
    console.log(error.message);
}
