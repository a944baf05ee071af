// An independent reader of Content Credentials: c2pa-ts, which shares no code with the library that signs.
//
//     npm install @trustnxt/c2pa-ts && node read_credentials.mjs edited.mp4 picture.png …
//
// Says for every file whether manifest, signature and content hold; the exit status is 1 where one does not.
import * as fs from 'node:fs/promises';
import { BMFF, PNG } from '@trustnxt/c2pa-ts/asset';
import { SuperBox } from '@trustnxt/c2pa-ts/jumbf';
import { ManifestStore } from '@trustnxt/c2pa-ts/manifest';

for (const brand of ['isom', 'mp41', 'mp42', 'M4V ', 'qt  ']) BMFF.canReadBrands.add(brand); // it lists those of HEIC alone
for (const file of process.argv.slice(2)) {
    const data = await fs.readFile(file);
    const asset = PNG.canRead(data) ? new PNG(data) : new BMFF(data);
    const manifests = ManifestStore.read(SuperBox.fromBuffer(await asset.getManifestJUMBF()));
    const found = await manifests.validate(asset);
    const faults = found.statusEntries.filter((entry) => !entry.success).map((entry) => entry.code);
    console.log(`${file}: ${found.isValid ? 'valid' : faults.join(', ')}`);
    if (!found.isValid) process.exitCode = 1;
}
